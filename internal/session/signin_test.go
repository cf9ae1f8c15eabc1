package session

import (
	"context"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// writeProtect makes every change of config.json fail, for root too.
func (w *world) writeProtect() {
	w.t.Helper()
	lock := w.path("config", "config.json.lock")
	w.must(os.RemoveAll(lock))
	w.must(os.MkdirAll(lock, 0o700))
}

// meddled is a store that ends with its context, as the keychain does, and in
// which something else happens just before the login is written or removed, or
// just after.
type meddled struct {
	store.Store
	saved, deleting func()
}

func (m meddled) Save(ctx context.Context, key store.Key, login *store.Login) error {
	if err := ctx.Err(); err != nil {
		return &store.UnavailableError{Store: store.KeychainName, Why: err.Error()}
	}
	err := m.Store.Save(ctx, key, login)
	if m.saved != nil {
		m.saved()
	}
	return err
}

func (m meddled) Delete(ctx context.Context, key store.Key) error {
	if m.deleting != nil {
		m.deleting()
	}
	if err := ctx.Err(); err != nil {
		return &store.UnavailableError{Store: store.KeychainName, Why: err.Error()}
	}
	return m.Store.Delete(ctx, key)
}

// meddling is a process whose stores are meddled with.
func (w *world) meddling(saved, deleting func()) *Session {
	s := w.process()
	open := s.Store
	s.Store = func(name string) (store.Store, error) {
		st, err := open(name)
		return meddled{st, saved, deleting}, err
	}
	return s
}

// blockBindings makes what is written to config.json fail from now on; its lock
// can be had.
func (w *world) blockBindings() {
	path := w.path("config", "config.json")
	w.must(os.RemoveAll(path))
	w.must(os.MkdirAll(path, 0o700))
}

func TestSignInReplacesTheLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry, other)
	w.bind(other, func(b *config.Binding) { b.Context = home })
	w.signIn(w.place(""), w.passwordLogin("bob"), registry)
	w.mustGet(registry, bobs)
	if _, err := w.get(other); outcomeOf(err) != Refused { // alice's context, and bob's login
		t.Errorf("error = %v, want a refusal", err)
	}
	if n := len(w.config().Logins); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}

	w.signIn(w.place(""), w.passwordLogin("alice"), other) // the binding stays, with its context
	w.mustGet(other, home)
}

// A failure of the login before does not keep the new one from being renewed.
func TestSignInEndsTheTimeOfRest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	next := w.passwordLogin("alice")
	w.login(registry)
	w.advance(2 * time.Hour)
	w.breakWith(answers(http.StatusInternalServerError, ""))
	w.mustGet(registry, work)
	w.breakWith(works)
	w.signIn(w.place(""), next, registry) // made two hours ago, too
	before := w.exchanges()
	w.mustGet(registry, work)
	if got := w.exchanges() - before; got != 1 {
		t.Errorf("%d exchanges, want 1", got)
	}
}

func TestSignInMovesBetweenStores(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry)
	elsewhere := w.place("")
	elsewhere.Store = store.KeychainName
	if notes := w.signIn(elsewhere, w.passwordLogin("alice"), registry); len(notes) > 0 {
		t.Errorf("notes = %q", notes)
	}
	if w.stored(w.place("")) != nil || w.stored(elsewhere) == nil {
		t.Error("the login is not where it was moved to, or still where it was")
	}
	w.advance(20 * time.Hour)
	w.mustGet(registry, work)
	w.advance(20 * time.Hour)
	w.mustGet(registry, work)
	if w.stored(w.place("")) != nil {
		t.Error("a renewal went to the store of before")
	}
}

func TestSignInDeletesTheKeyOfTheLoginBefore(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		prepare func(w *world, key string)
		store   string
	}{
		{name: "with a valid token", prepare: func(*world, string) {}},
		{name: "with a token that has ended", prepare: func(w *world, _ string) { w.advance(48 * time.Hour) }},
		{name: "with a token that was revoked", prepare: func(w *world, _ string) { w.service.RevokeSessions(alice) }},
		{name: "from another store", store: store.KeychainName, prepare: func(*world, string) {}},
		{name: "a key that is gone already", prepare: func(w *world, key string) { w.must(w.service.DeleteKey(key)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			key := w.loginKeep(registry)
			tt.prepare(w, key.Reveal())
			place := w.place("")
			if tt.store != "" {
				place.Store = tt.store
			}
			if notes := w.signIn(place, w.keptLogin(), registry); len(notes) > 0 {
				t.Errorf("notes = %q", notes)
			}
			if w.keyWorks(key) {
				t.Error("the key of the login before is still valid")
			}
			w.mustGet(registry, work)
		})
	}
	w := newWorld(t)
	w.loginKeep(registry)
	next := w.passwordLogin("alice")
	w.breakWith(away)
	notes := w.signIn(w.place(""), next, registry)
	if len(notes) != 1 || !strings.HasPrefix(notes[0], `the API key "`+alias+`" of the login before could not be deleted: `) {
		t.Errorf("with the service away: notes = %q", notes)
	}
	w.mustGet(registry, work)
}

// The same key again is no reason to delete it, and a key that the user brought
// is not ours to delete.
func TestSignInLeavesKeysAloneThatAreInUse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	kept := w.keptLogin()
	w.signIn(w.place(""), kept, registry)
	again := *kept
	again.Tokens = slices.Clone(kept.Tokens)
	w.signIn(w.place(""), &again, registry)
	if !w.keyWorks(kept.Key) {
		t.Error("the key was deleted")
	}
	brought := *kept
	brought.Method = store.APIKey
	w.signIn(w.place("other"), &brought, other)
	w.signIn(w.place("other"), w.passwordLogin("bob"), other)
	if !w.keyWorks(kept.Key) {
		t.Error("the user's key was deleted")
	}
}

// Whatever cannot be written, the login that was there goes on working.
func TestSignInThatFailsLosesNothing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		prepare func(w *world)
		store   string
	}{
		{"a full disk", func(w *world) { w.full = true }, store.FileName},
		{"a full disk for the other store", func(w *world) { w.full = true }, store.KeychainName},
		{"bindings that cannot be written", (*world).writeProtect, store.FileName},
		{"bindings that cannot be written, for the other store", (*world).writeProtect, store.KeychainName},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			key := w.loginKeep(registry)
			next := w.passwordLogin("bob")
			tt.prepare(w)
			place := w.place("")
			place.Store = tt.store
			if _, err := w.process().SignIn(w.ctx(), place, next, []config.Address{registry, other}); err == nil {
				t.Fatal("no error")
			}
			w.full = false
			if login := w.stored(w.place("")); login == nil || login.Key != key {
				t.Errorf("the login is %+v now, want the one before", login)
			}
			if tt.store != store.FileName && w.stored(place) != nil {
				t.Error("the new login was left behind")
			}
			if !w.keyWorks(key) {
				t.Error("the key of the login before was deleted")
			}
			w.mustGet(registry, work)
		})
	}
}

func TestFirstSignInThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		saved func(w *world, cancel func())
	}{
		{name: "bindings that cannot be locked", saved: nil},
		{"bindings that cannot be written", func(w *world, _ func()) { w.blockBindings() }},
		{"an interruption as well", func(w *world, cancel func()) { w.blockBindings(); cancel() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			next := w.passwordLogin("bob")
			ctx, cancel := context.WithCancel(w.ctx())
			defer cancel()
			once := sync.OnceFunc(func() { tt.saved(w, cancel) })
			if tt.saved == nil {
				w.writeProtect()
				once = nil
			}
			_, err := w.meddling(once, nil).SignIn(ctx, w.place(""), next, []config.Address{registry})
			if err == nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("error = %v, want one line", err)
			}
			if w.stored(w.place("")) != nil {
				t.Error("a login was left behind that nothing names")
			}
		})
	}
}

// Another process has the bindings for longer than there is time.
func TestSignInWaitsBeforeItSaves(t *testing.T) {
	t.Parallel()
	for _, first := range []bool{true, false} {
		w := newWorld(t)
		next := w.passwordLogin("bob")
		if !first {
			w.login(registry)
		}
		busy, done := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = config.Update(w.ctx(), w.path("config", "config.json"), func(*config.Config) error {
				close(busy)
				<-done
				return nil
			})
		})
		<-busy
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err := w.meddling(func() { t.Error("the login was saved") }, nil).SignIn(ctx, w.place(""), next, []config.Address{registry})
		cancel()
		close(done)
		wg.Wait()
		if err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("error = %v, want one line", err)
		}
		if first != (w.stored(w.place("")) == nil) {
			t.Error("the login that was there is gone, or one is there that nothing names")
		}
	}
}

// What cannot be read for the moment may hold a key that must not be forgotten.
func TestSignInOverALoginThatIsOutOfReach(t *testing.T) {
	t.Parallel()
	t.Run("in the same store", func(t *testing.T) {
		w := newWorld(t)
		key := w.loginKeep(registry)
		next, file := w.passwordLogin("bob"), w.loginFile()
		w.must(os.Chmod(file, 0o644))
		if _, err := w.process().SignIn(w.ctx(), w.place(""), next, []config.Address{registry}); outcomeOf(err) != StoreAway {
			t.Errorf("error = %v, want StoreAway", err)
		}
		w.must(os.Chmod(file, 0o600))
		if login := w.stored(w.place("")); login == nil || login.Key != key {
			t.Errorf("the login is %+v now, want the one before", login)
		}
	})
	t.Run("in the other store", func(t *testing.T) {
		w := newWorld(t)
		key := w.loginKeep(registry)
		next, file := w.passwordLogin("bob"), w.loginFile()
		w.must(os.Chmod(file, 0o644))
		elsewhere := w.place("")
		elsewhere.Store = store.KeychainName
		notes := w.signIn(elsewhere, next, registry)
		if len(notes) != 1 || !strings.HasPrefix(notes[0], "the old login is still in the file "+file) {
			t.Errorf("notes = %q, want where the old login is", notes)
		}
		w.must(os.Chmod(file, 0o600))
		if login := w.stored(w.place("")); login == nil || login.Key != key {
			t.Error("the kept key is lost")
		}
		w.mustGet(registry, bobs)
	})
	t.Run("damaged for good", func(t *testing.T) {
		w := newWorld(t)
		w.login(registry)
		w.must(os.WriteFile(w.loginFile(), []byte("{"), 0o600))
		w.signIn(w.place(""), w.passwordLogin("bob"), registry)
		w.mustGet(registry, bobs)
	})
}

func TestAddressMovesFromOneLoginToAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry, other)
	w.bind(other, func(b *config.Binding) { b.Context = home })
	w.loginAs("bob", w.passwordLogin("bob"), other)
	w.mustGet(registry, work)
	w.mustGet(other, bobs) // alice's context has gone with her login
	w.must(w.signOut("bob"))
	_, err := w.get(other) // nobody asked to give it back to alice
	wantError(t, err, NotLoggedIn, `127.0.0.1:5000: not logged in; run "docker-credential-dtz login --registry 127.0.0.1:5000 --profile bob"`)
	w.mustGet(registry, work)
}

func TestSignInAndSignOutWaitNoLongerThanTheyMay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry)
	next := w.passwordLogin("alice")
	before := w.snapshot()
	w.holdSlot()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := w.process().SignIn(ctx, w.place(""), next, nil); outcomeOf(err) != Unreachable {
		t.Errorf("SignIn = %v, want Unreachable", err)
	}
	if _, err := w.process().SignOut(ctx, w.place("")); outcomeOf(err) != Unreachable {
		t.Errorf("SignOut = %v, want Unreachable", err)
	}
	if w.snapshot() != before {
		t.Error("something was changed out of turn")
	}
}
