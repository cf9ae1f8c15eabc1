package session

import (
	"maps"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// erase is docker logout, in a process of its own.
func (w *world) erase(address config.Address) (note string) {
	w.t.Helper()
	note, err := w.process().Erase(w.ctx(), address)
	w.must(err)
	return note
}

func TestEraseEndsTheLoginWithItsLastAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.loginKeep(registry, other)
	for range 2 { // Docker calls it twice
		if note := w.erase(other); note != "" {
			t.Errorf("note = %q", note)
		}
	}
	if w.stored(w.place("")) == nil || !w.keyWorks(key) {
		t.Fatal("the login went with one of two addresses")
	}
	_, err := w.get(other)
	wantError(t, err, NotOurs, `127.0.0.1:5000: no login serves it; run "docker-credential-dtz login --registry 127.0.0.1:5000"`)
	w.mustGet(registry, work)

	for range 2 {
		if note := w.erase(registry); note != "" {
			t.Errorf("note = %q", note)
		}
	}
	if w.stored(w.place("")) != nil || w.keyWorks(key) || len(w.config().Logins) != 0 {
		t.Error("the login or its key is still there")
	}
	_, err = w.get(registry)
	wantError(t, err, NotLoggedIn, `cr.dtz.rocks: not logged in; run "docker-credential-dtz login"`)
}

// What a registry has named does not keep the login. What somebody has asked for
// does, whoever has bound it.
func TestEraseKeepsTheLoginForWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	const port3214, port3215, port4000 = "cr.dtz.rocks:3214", "cr.dtz.rocks:3215", "cr.dtz.rocks:4000"
	bindings := map[config.Address]config.Binding{
		registry: {},
		port3214: {Context: work, ByConfigure: true, NamedBy: registry},
		port3215: {Context: home, ByConfigure: true, NamedBy: registry},
		port4000: {ByConfigure: true},
		other:    {ByConfigure: true},
	}
	for _, tt := range []struct {
		name  string
		erase []config.Address
		want  []config.Address // still bound
	}{
		{"a registry that has named two ports", []config.Address{registry}, []config.Address{other, port3214, port3215, port4000}},
		{"one of two ports that it has named", []config.Address{port3214}, []config.Address{other, registry, port3215, port4000}},
		{"a port that configure was asked for", []config.Address{port4000}, []config.Address{other, registry, port3214, port3215}},
		{"all that somebody has asked for", []config.Address{registry, port4000, other}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.login(registry)
			for address, want := range bindings {
				w.bind(address, func(b *config.Binding) {
					want.Identity, want.Profile = w.url, config.DefaultProfile
					*b = want
				})
			}
			for _, address := range tt.erase {
				w.erase(address)
			}
			if got := slices.Sorted(maps.Keys(w.config().Bindings)); !slices.Equal(got, tt.want) {
				t.Errorf("bound are still %v, want %v", got, tt.want)
			}
			if kept := w.stored(w.place("")) != nil; kept != (len(tt.want) > 0) {
				t.Errorf("the login is kept: %v", kept)
			}
			if slices.Contains(tt.want, port3215) {
				w.mustGet(port3215, home)
			}
		})
	}
}

// While docker logout waits for its turn, the login gets another address, or
// the address another login.
func TestEraseDecidesInItsTurn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		meanwhile func(w *world)
		address   config.Address // still served
		contextID string
	}{
		{"another address", func(w *world) {
			w.bind(other, func(b *config.Binding) { b.Identity, b.Profile = w.url, config.DefaultProfile })
		}, other, work},
		{"another login", func(w *world) { w.loginAs("bob", w.passwordLogin("bob"), registry) }, registry, bobs},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.login(registry)
			slot := store.LoginSlot(w.path("state"), store.Key{Identity: w.url, Profile: config.DefaultProfile})
			unlock, err := slot.Lock(w.ctx(), nil)
			w.must(err)
			erased := make(chan error)
			go func() {
				_, err := w.process().Erase(w.ctx(), registry)
				erased <- err
			}()
			time.Sleep(100 * time.Millisecond) // most likely it waits by then
			tt.meanwhile(w)
			unlock()
			w.must(<-erased)
			w.mustGet(tt.address, tt.contextID)
			if w.stored(w.place("")) == nil {
				t.Error("the login is gone")
			}
		})
	}
}

// A file serves its address before any login does: the login goes without
// regard to it, and it goes with its own address alone.
func TestEraseBesideAnAPIKeyFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry, other)
	path := w.write("key", w.apiKey(bob).Reveal(), 0o600)
	w.bind(other, func(b *config.Binding) { b.APIKeyFile = path })
	w.erase(registry)
	if w.stored(w.place("")) != nil {
		t.Error("the login is still there, and serves nothing")
	}
	w.mustGet(other, bobs)
	w.erase(other)
	if _, err := w.get(other); outcomeOf(err) != NotOurs {
		t.Errorf("error = %v, want NotOurs", err)
	}
}

// A server's cron has a key file, and perhaps no folder for locks.
func TestEraseWithoutAStateFolder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.bind(other, func(b *config.Binding) {
		b.Identity, b.Profile, b.APIKeyFile = w.url, config.DefaultProfile, "/run/key"
	})
	s := w.process()
	s.StateDir = ""
	if _, err := s.Erase(w.ctx(), other); err != nil {
		t.Error(err)
	}
	if _, bound := w.config().Bindings[other]; bound {
		t.Error("the address is still bound")
	}
	if _, err := os.Stat("locks"); err == nil {
		t.Error("a lock was made in the current folder")
	}
}

func TestEraseWithTheServiceAwayNamesTheKey(t *testing.T) {
	t.Parallel()
	for _, f := range []struct {
		name  string
		fault fault
		why   string
	}{
		{"away", away, "dial tcp 127.0.0.1:1: connect: connection refused"},
		{"broken", answers(http.StatusInternalServerError, ""), "identity service answered 500 Internal Server Error"},
		{"refusing", answers(http.StatusForbidden, "no"), "identity service answered 403 Forbidden: no"},
	} {
		w := newWorld(t)
		w.loginKeep(registry)
		w.breakWith(f.fault)
		want := `cr.dtz.rocks: the API key "` + alias + `" could not be deleted at the identity service: exchanging the API key: ` + f.why
		if note := w.erase(registry); note != want {
			t.Errorf("%s: note = %q, want %q", f.name, note, want)
		}
		if w.stored(w.place("")) != nil {
			t.Errorf("%s: the login is still there", f.name)
		}
		if note := w.erase(registry); note != "" {
			t.Errorf("%s: the second time, note = %q", f.name, note)
		}
	}
}

func TestEraseOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		prepare func(w *world, s *Session)
		address config.Address
		note    string
	}{
		{"a new machine", func(*world, *Session) {}, registry, ""},
		{"no home", func(_ *world, s *Session) { s.ConfigPath, s.StateDir = "", "" }, registry, ""},
		{"an address that is not ours", func(w *world, _ *Session) { w.login(registry) }, "ghcr.io", ""},
		{
			"another port of the platform's registry", func(w *world, _ *Session) { w.login(registry) }, "cr.dtz.rocks:3214",
			`cr.dtz.rocks:3214: served by the login of cr.dtz.rocks, which stays; run "docker logout cr.dtz.rocks" to end it`,
		},
	} {
		w := newWorld(t)
		s := w.process()
		tt.prepare(w, s)
		for range 2 {
			note, err := s.Erase(w.ctx(), tt.address)
			if note != tt.note || err != nil {
				t.Errorf("%s: Erase = %q, %v, want %q", tt.name, note, err, tt.note)
			}
		}
		if len(w.config().Logins) > 0 {
			w.mustGet(registry, work)
		}
	}
}

func TestEraseWithTheStoreAwayCanBeTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.loginKeep(registry)
	w.must(os.Chmod(w.loginFile(), 0o644))
	if _, err := w.process().Erase(w.ctx(), registry); outcomeOf(err) != StoreAway {
		t.Fatalf("error = %v, want StoreAway", err)
	}
	w.must(os.Chmod(w.loginFile(), 0o600))
	w.erase(registry)
	if w.stored(w.place("")) != nil || w.keyWorks(key) {
		t.Error("the second try did not end the login")
	}
}

func TestEraseOfDockerLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry)
	w.must(w.keep(other, UserBearer, w.token(bob, bobs)))
	w.erase(other)
	if w.stored(w.adopted(other)) != nil {
		t.Error("the login of docker login is still there")
	}
	w.mustGet(registry, work)
}

func TestList(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	check := func(when string, want ...string) {
		t.Helper()
		got, err := w.process().List(w.ctx())
		all := map[string]string{}
		for _, address := range want {
			all[address] = UserBearer
		}
		if err != nil || got == nil || !maps.Equal(got, all) {
			t.Errorf("%s: List() = %v, %v, want %v", when, got, err, all)
		}
	}
	check("on a new machine")
	w.login(registry, other)
	w.must(w.keep("127.0.0.1:6000", UserAPIKey, w.apiKey(bob)))
	check("after two logins", "cr.dtz.rocks", "127.0.0.1:5000", "127.0.0.1:6000")
	w.advance(48 * time.Hour)
	check("after the end of one", "cr.dtz.rocks", "127.0.0.1:5000", "127.0.0.1:6000")
	w.erase("127.0.0.1:6000")
	check("after docker logout of the other", "cr.dtz.rocks", "127.0.0.1:5000")
	w.loginAs("spare", w.passwordLogin("bob"))
	check("with a login that serves nothing", "cr.dtz.rocks", "127.0.0.1:5000")
}

// A login that cannot be read is as good as none, and hides no other.
func TestListWithADamagedLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry)
	w.must(os.WriteFile(w.loginFile(), []byte("{"), 0o600))
	w.must(w.keep(other, UserBearer, w.token(bob, bobs)))
	got, err := w.process().List(w.ctx())
	if want := map[string]string{"127.0.0.1:5000": UserBearer}; err != nil || !maps.Equal(got, want) {
		t.Errorf("List() = %v, %v, want %v", got, err, want)
	}
}

func TestListWithTheStoreAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry)
	w.must(os.Chmod(w.loginFile(), 0o644))
	_, err := w.process().List(w.ctx())
	if outcomeOf(err) != StoreAway {
		t.Errorf("List() = %v, want StoreAway", err)
	}
}
