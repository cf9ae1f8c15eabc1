package session

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

func (w *world) signOut(profile string) error {
	_, err := w.process().SignOut(w.ctx(), w.place(profile))
	return err
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
				w.must(w.signOut(""))
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
	if c := w.config(); len(c.Logins) != 0 {
		w.t.Errorf("config.json still names it: %+v", c)
	}
}

// Somebody deletes the key at the same time: it is gone, and that was wanted.
func TestSignOutWithAKeyThatIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.loginKeep(registry)
	w.breakWith(fault{answer: func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			if err := w.service.DeleteKey(key.Reveal()); err != nil {
				t.Error(err) // this is not the test's goroutine
			}
		}
		w.service.ServeHTTP(rw, r)
	}})
	w.must(w.signOut(""))
	w.checkForgotten()
}

func TestSignOutWithTheServiceAway(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]fault{"away": away, "broken": answers(http.StatusInternalServerError, ""), "refusing": answers(http.StatusForbidden, "no")} {
		w := newWorld(t)
		key := w.loginKeep(registry)
		w.breakWith(f)
		_, err := w.process().SignOut(w.ctx(), w.place(""))
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
	if _, err := w.process().SignOut(w.ctx(), w.place("")); err == nil || !strings.Contains(err.Error(), "writing bindings") {
		t.Errorf("error = %v, want that of the bindings", err)
	}
	if !w.keyWorks(key) || w.stored(w.place("")) == nil {
		t.Error("half of it was done")
	}

	w = newWorld(t)
	key = w.loginKeep(registry)
	if _, err := w.meddling(nil, w.blockBindings).SignOut(w.ctx(), w.place("")); err == nil {
		t.Error("no error")
	}
	if w.keyWorks(key) || w.stored(w.place("")) != nil {
		t.Error("the key or the secret is still there")
	}

	w = newWorld(t)
	w.loginKeep(registry)
	w.breakWith(away)
	_, err := w.meddling(nil, w.blockBindings).SignOut(w.ctx(), w.place(""))
	var unrevoked *UnrevokedError
	if !errors.As(err, &unrevoked) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error = %v, want an UnrevokedError in one line", err)
	}
}

// Ctrl-C comes when the secret is gone here: the key must go, too.
func TestSignOutThatIsInterrupted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		start func(w *world, cancel func()) *Session
	}{
		{"before the secret is deleted", func(w *world, cancel func()) *Session { return w.meddling(nil, cancel) }},
		{"before the key is deleted", func(w *world, cancel func()) *Session {
			w.breakWith(fault{answer: func(rw http.ResponseWriter, r *http.Request) { cancel(); w.service.ServeHTTP(rw, r) }})
			return w.process()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			key := w.loginKeep(registry)
			ctx, cancel := context.WithCancel(w.ctx())
			defer cancel()
			if _, err := tt.start(w, cancel).SignOut(ctx, w.place("")); err != nil {
				t.Errorf("error = %v", err)
			}
			w.checkForgotten()
			w.breakWith(works)
			if w.keyWorks(key) {
				t.Error("the kept key is still valid")
			}
		})
	}
}

// Docker waits no longer than its deadline, whatever has begun.
func TestSignOutEndsWithItsDeadline(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.loginKeep(registry)
	w.breakWith(silent)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err := w.process().SignOut(ctx, w.place(""))
	var unrevoked *UnrevokedError
	if !errors.As(err, &unrevoked) || unrevoked.Alias != alias {
		t.Errorf("error = %v, want an UnrevokedError with the alias", err)
	}
	if late := -remaining(ctx); late > 5*time.Second {
		t.Errorf("%v after the deadline", late)
	}
	w.checkForgotten()
}

// The login has moved since its place was looked up.
func TestSignOutFindsTheLoginWhereItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry)
	elsewhere := w.place("")
	elsewhere.Store = store.KeychainName
	kept := w.keptLogin()
	w.signIn(elsewhere, kept, registry)
	w.must(w.signOut(""))
	if w.stored(elsewhere) != nil || w.keyWorks(kept.Key) {
		t.Error("the login or its key is still there")
	}
	w.checkForgotten()
}

func TestSignOutLeavesWhatAnAPIKeyFileServes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry, other)
	path := w.write("key", w.apiKey(alice).Reveal(), 0o600)
	w.bind(other, func(b *config.Binding) { b.APIKeyFile = path })
	w.must(w.signOut(""))
	w.mustGet(other, work)
	if w.stored(w.place("")) != nil || len(w.config().Logins) != 0 {
		t.Error("the login is still there")
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
	go func() { signedOut <- w.signOut("") }()
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
			if _, err := w.process().SignOut(w.ctx(), w.place("")); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		w.checkForgotten()
	}
}

// Whoever wants a login gone is not told how to make another one.
func TestSignOutWithTheStoreAwaySaysToTryAgain(t *testing.T) {
	t.Parallel()
	err := fromStoreAgain(&store.UnavailableError{Store: store.KeychainName, Why: "it is locked"})
	wantError(t, err, StoreAway, "keychain out of reach: it is locked; make it reachable and try again")
}
