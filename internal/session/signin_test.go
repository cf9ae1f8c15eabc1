package session

import (
	"context"
	"errors"
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
	t.Run("a first login whose bindings cannot be written", func(t *testing.T) {
		w := newWorld(t)
		w.writeProtect()
		if _, err := w.process().SignIn(w.ctx(), w.place(""), w.passwordLogin("bob"), []config.Address{registry}); err == nil {
			t.Error("no error")
		}
		if w.stored(w.place("")) != nil {
			t.Error("a login was left behind that nothing names")
		}
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
	w.must(w.process().SignOut(w.ctx(), w.place("bob")))
	if _, err := w.get(other); outcomeOf(err) != NotOurs {
		t.Errorf("error = %v, want NotOurs: nobody asked to give it back to alice", err)
	}
	w.mustGet(registry, work)
}

func TestSignOut(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		prepare func(w *world)
	}{
		{"with a valid token", func(*world) {}},
		{"with a token that has ended", func(w *world) { w.advance(48 * time.Hour) }},
		{"with a token that was revoked", func(w *world) { w.service.RevokeSessions(alice) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			key := w.loginKeep(registry, other)
			tt.prepare(w)
			for range 2 {
				w.must(w.process().SignOut(w.ctx(), w.place("")))
			}
			if w.keyWorks(key) {
				t.Error("the kept key is still valid")
			}
			w.checkForgotten()
		})
	}
}

// checkForgotten checks that nothing is left of the default login.
func (w *world) checkForgotten() {
	w.t.Helper()
	if w.stored(w.place("")) != nil {
		w.t.Error("the secret is still there")
	}
	c := w.config()
	if len(c.Logins) != 0 || len(c.Served(w.url, config.DefaultProfile)) != 0 {
		w.t.Errorf("config.json still names it: %+v", c)
	}
}

func TestSignOutWithTheServiceAway(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]fault{"away": away, "broken": answers(http.StatusInternalServerError, ""), "refusing": answers(http.StatusForbidden, "no")} {
		w := newWorld(t)
		key := w.loginKeep(registry)
		w.breakWith(f)
		err := w.process().SignOut(w.ctx(), w.place(""))
		var unrevoked *UnrevokedError
		if !errors.As(err, &unrevoked) || unrevoked.Alias != alias {
			t.Errorf("%s: error = %v, want an UnrevokedError with the alias", name, err)
		} else if strings.Contains(err.Error(), key.Reveal()) {
			t.Errorf("%s: the error quotes the key: %v", name, err)
		}
		w.checkForgotten()
	}
}

// A key must not stay valid, and be forgotten, because of a file.
func TestSignOutWithBindingsThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.loginKeep(registry)
	w.writeProtect()
	err := w.process().SignOut(w.ctx(), w.place(""))
	if err == nil || !strings.Contains(err.Error(), "writing bindings") {
		t.Errorf("error = %v, want that of the bindings", err)
	}
	if w.keyWorks(key) || w.stored(w.place("")) != nil {
		t.Error("the key or the secret is still there")
	}
}

// A renewal that is under way when its login is forgotten does not bring it back.
func TestRenewalDoesNotBringALoginBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry)
	w.advance(20 * time.Hour)
	arrived, proceed := make(chan struct{}), make(chan struct{})
	w.breakWith(fault{answer: func(rw http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-proceed
		w.service.ServeHTTP(rw, r)
	}})
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = w.get(registry) })
	<-arrived
	signedOut := make(chan error)
	go func() { signedOut <- w.process().SignOut(w.ctx(), w.place("")) }()
	close(proceed)
	w.must(<-signedOut)
	wg.Wait()
	w.checkForgotten()

	// Many of both, in whatever order.
	w.breakWith(works)
	for range 5 {
		w.login(registry)
		w.advance(20 * time.Hour)
		for range 4 {
			wg.Go(func() { _, _ = w.get(registry) })
		}
		wg.Go(func() {
			if err := w.process().SignOut(w.ctx(), w.place("")); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		w.checkForgotten()
	}
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
	if err := w.process().SignOut(ctx, w.place("")); outcomeOf(err) != Unreachable {
		t.Errorf("SignOut = %v, want Unreachable", err)
	}
	if w.snapshot() != before {
		t.Error("something was changed out of turn")
	}
}
