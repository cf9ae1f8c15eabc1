package session

import (
	"context"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// Ports of the platform's registry, as contexts have them.
const (
	port3214 = registry + ":3214"
	port3215 = registry + ":3215"
)

// use is context use.
func (w *world) use(contextID string, addresses ...config.Address) {
	w.t.Helper()
	if _, err := w.process().UseContext(w.ctx(), w.place(""), contextID, addresses); err != nil {
		w.t.Fatal(err)
	}
}

func TestUseContext(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		does func(*world)
		want map[config.Address]string
	}{
		{
			"without a registry, for all that have none of their own",
			func(w *world) { w.use(home) },
			map[config.Address]string{registry: home, port3214: home, other: work},
		},
		{
			"for one port, which had no binding",
			func(w *world) { w.use(home, port3215) },
			map[config.Address]string{registry: work, port3214: work, port3215: home, other: work},
		},
		{
			"for a registry that has one of its own",
			func(w *world) { w.use(home, other) },
			map[config.Address]string{registry: work, other: home},
		},
		{
			"for a registry that nobody served",
			func(w *world) { w.use(home, "127.0.0.1:5001") },
			map[config.Address]string{registry: work, "127.0.0.1:5001": home},
		},
		{
			"for all ports but one",
			func(w *world) { w.use(work, port3214); w.use(home, registry) },
			map[config.Address]string{registry: home, port3214: work, port3215: home},
		},
		{
			"for two at once",
			func(w *world) { w.use(home, port3214, port3215) },
			map[config.Address]string{registry: work, port3214: home, port3215: home},
		},
		{
			"the default by name, which the registry keeps when the default changes",
			func(w *world) { w.use(work, port3214); w.use(home) },
			map[config.Address]string{registry: home, port3214: work},
		},
		{
			"and back to the default",
			func(w *world) {
				w.use(home, port3214)
				w.must(w.process().UseDefault(w.ctx(), []config.Address{port3214, other, registry}))
			},
			map[config.Address]string{registry: work, port3214: work, other: work},
		},
		{
			"and back to the default where all other ports are in another context",
			func(w *world) {
				w.use(home, registry)
				w.must(w.process().UseDefault(w.ctx(), []config.Address{port3214}))
			},
			map[config.Address]string{registry: home, port3214: work, port3215: home},
		},
		{
			"and a login after it, which changes nothing of that",
			func(w *world) { w.use(home, port3215); w.login(registry, port3215) },
			map[config.Address]string{registry: work, port3215: home},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.login(registry, other)
			w.use(work, other)
			tt.does(w)
			before := w.exchanges()
			for address, contextID := range tt.want {
				w.mustGet(address, contextID)
			}
			if got := w.exchanges() - before; got != 0 && !strings.Contains(tt.name, "a login after it") {
				t.Errorf("%d exchanges, want none: the tokens were there", got)
			}
		})
	}
}

// Either spelling is the same context, and what is kept is the service's.
func TestUseContextInItsOtherSpelling(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry)
	bare := strings.TrimPrefix(home, "context-")
	login, err := w.process().UseContext(w.ctx(), w.place(""), bare, []config.Address{other})
	if err != nil || login.Token(bare).Context != home {
		t.Fatalf("UseContext = %+v, %v, want a token for %s", login, err, home)
	}
	w.use(bare)
	if got := w.config().Bindings[other].Context; got != home {
		t.Errorf("bound to %s, want %s", got, home)
	}
	if got := w.stored(w.place("")); got.Context != home || len(got.Tokens) != 2 {
		t.Errorf("the login is in %s with %d tokens, want %s with one for each context", got.Context, len(got.Tokens), home)
	}
}

// Whatever goes wrong, each registry stays in the context that it was in.
func TestUseContextThatFailsChangesNothing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		login     func(*world, ...config.Address)
		prepare   func(*world)
		contextID string
		outcome   Outcome
		text      string
	}{
		{
			name: "another's context", contextID: bobs, outcome: Refused,
			text: `login refused in context context-bob00001 by the identity service: this identity may not use that context; run "docker-credential-dtz context list"`,
		},
		{
			name: "a context that the key may not use", contextID: bobs, outcome: Refused,
			login: func(w *world, a ...config.Address) { w.loginKeep(a...) },
			text:  `the API key of this login was refused in context context-bob00001 by the identity service: this API key may not use that context; run "docker-credential-dtz context list"`,
		},
		{
			name: "a service that ignores the context", contextID: home, outcome: Unreachable,
			prepare: func(w *world) {
				w.breakWith(fault{answer: func(rw http.ResponseWriter, r *http.Request) {
					r.Body = http.NoBody
					w.service.ServeHTTP(rw, r)
				}})
			},
			text: `refreshing the token: asked for a token in context context-home0001, got one in context-work0001; run "docker-credential-dtz doctor"`,
		},
		{
			name: "a service that is away", contextID: home, outcome: Unreachable,
			prepare: func(w *world) { w.breakWith(away) },
			text:    `identity service out of reach: dial tcp 127.0.0.1:1: connect: connection refused; run "docker-credential-dtz doctor"`,
		},
		{
			name: "a login that has ended", contextID: home, outcome: Expired,
			prepare: func(w *world) { w.advance(26 * time.Hour) },
			text:    `login expired 2 hours ago; run "docker-credential-dtz login --insecure-storage --registry 127.0.0.1:5000"`,
		},
		{
			name: "a full disk", contextID: home, outcome: StoreAway,
			prepare: func(w *world) { w.full = true },
			text:    `file out of reach: no space left on device; run "docker-credential-dtz status"`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			if tt.login == nil {
				tt.login = (*world).login
			}
			tt.login(w, registry, other)
			before, err := os.ReadFile(w.path("config", "config.json"))
			w.must(err)
			if tt.prepare != nil {
				tt.prepare(w)
			}
			for _, addresses := range [][]config.Address{nil, {other}, {port3214}} {
				_, err := w.process().UseContext(w.ctx(), w.place(""), tt.contextID, addresses)
				wantError(t, err, tt.outcome, tt.text)
			}
			after, err := os.ReadFile(w.path("config", "config.json"))
			w.must(err)
			if string(before) != string(after) {
				t.Errorf("bindings before:\n%s\nafter:\n%s", before, after)
			}
			if login := w.stored(w.place("")); login.Context != work || len(login.Tokens) != 1 {
				t.Errorf("the login is in %s with %d tokens, want %s with 1", login.Context, len(login.Tokens), work)
			}
		})
	}
	w := newWorld(t)
	w.login(registry)
	if err := w.process().UseDefault(w.ctx(), []config.Address{"ghcr.io"}); outcomeOf(err) != NotOurs {
		t.Errorf("a stranger's registry: error = %v", err)
	}
	w.writeProtect()
	if _, err := w.process().UseContext(w.ctx(), w.place(""), home, []config.Address{registry}); outcomeOf(err) != Misconfigured {
		t.Errorf("with bindings that cannot be written: error = %v", err)
	}
	w.mustGet(registry, work)
	if _, err := w.process().UseContext(w.ctx(), w.place("nobody"), home, nil); outcomeOf(err) != NotLoggedIn {
		t.Errorf("without a login: error = %v", err)
	}
}

// A port that is given a context keeps what served it until then.
func TestUseContextKeepsTheAPIKeyFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry)
	w.bind(registry, func(b *config.Binding) { b.APIKeyFile = w.write("key", w.apiKey(alice).Reveal(), 0o600) })
	w.use(home, port3214)
	if b := w.config().Bindings[port3214]; b.APIKeyFile == "" || b.Context != home {
		t.Errorf("binding = %+v, want the file and the context", b)
	}
	if got := w.mustGet(port3214, home).Source; got != FromBoundFile {
		t.Errorf("served by %s, want the file", got)
	}
}

// What a person has chosen is not configure's any more, for unconfigure to take
// back.
func TestUseContextMakesABindingThePersons(t *testing.T) {
	t.Parallel()
	for name, choose := range map[string]func(*world) error{
		"a context":   func(w *world) error { w.use(home, port3214); return nil },
		"the default": func(w *world) error { return w.process().UseDefault(w.ctx(), []config.Address{port3214}) },
	} {
		w := newWorld(t)
		w.login(registry)
		w.bind(port3214, func(b *config.Binding) {
			*b = config.Binding{Identity: w.url, Profile: config.DefaultProfile, Context: work, ByConfigure: true, NamedBy: registry}
		})
		w.must(choose(w))
		if b := w.config().Bindings[port3214]; b.ByConfigure || b.NamedBy != "" {
			t.Errorf("%s was chosen, and the binding is still configure's: %+v", name, b)
		}
	}
}

// Renewals in the midst of it lose nothing of it, and it loses no renewal.
func TestUseContextBesideRenewals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry, other)
	w.use(home, other)
	w.advance(20 * time.Hour)
	before := w.exchanges()
	var wg sync.WaitGroup
	for range 8 {
		for _, address := range []config.Address{registry, other} {
			wg.Go(func() {
				if _, err := w.get(address); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Go(func() { w.use(home) })
	wg.Go(func() { w.use(work, port3214) })
	wg.Wait()
	if got := w.exchanges() - before; got > 4 {
		t.Errorf("%d exchanges, want one for each context and two to change them", got)
	}
	before = w.exchanges()
	for address, contextID := range map[config.Address]string{registry: home, other: home, port3214: work} {
		w.mustGet(address, contextID)
	}
	if got := w.exchanges() - before; got != 0 {
		t.Errorf("%d exchanges, want none: the tokens were there", got)
	}
}

// From before its exchange to after the last write a change of context is alone
// with the login, or what others do in that time is lost.
func TestUseContextTakesItsTurn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		also  func(*world) error // by another process, while the first one waits for its token
		check func(*world)
	}{
		{
			"before another change of context",
			func(w *world) error {
				_, err := w.process().UseContext(w.ctx(), w.place(""), work, []config.Address{port3215})
				return err
			},
			func(w *world) {
				w.mustGet(port3214, home)
				w.mustGet(port3215, work)
			},
		},
		{
			"before a renewal",
			func(w *world) error { _, err := w.get(registry); return err },
			func(w *world) {
				w.mustGet(port3214, home)
				w.mustGet(registry, work)
			},
		},
		{
			"before a login, which takes the place of this one",
			func(w *world) error {
				_, err := w.process().SignIn(w.ctx(), w.place(""), w.passwordLogin("alice"), []config.Address{other})
				return err
			},
			func(w *world) {
				w.mustGet(other, work)
				if got := w.stored(w.place("")).Method; got != store.Password {
					t.Errorf("the login that came last was by %s, and it is by %s", store.Password, got)
				}
				if got := w.config().Bindings[port3214].Context; got != home {
					t.Errorf("the registry is in the context %q, want %s", got, home)
				}
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.loginKeep(registry)
			w.advance(48 * time.Hour) // no token is left: whoever needs one waits for it
			arrived, proceed := make(chan struct{}), make(chan struct{})
			var first sync.Once
			w.breakWith(fault{answer: func(rw http.ResponseWriter, r *http.Request) {
				first.Do(func() { close(arrived); <-proceed })
				w.service.ServeHTTP(rw, r)
			}})
			var wg sync.WaitGroup
			wg.Go(func() {
				if _, err := w.process().UseContext(w.ctx(), w.place(""), home, []config.Address{port3214}); err != nil {
					t.Error(err)
				}
			})
			<-arrived
			wg.Go(func() {
				if err := tt.also(w); err != nil {
					t.Error(err)
				}
			})
			// However slow the machine: whoever has no time to wait is turned away.
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_, err := w.process().UseContext(ctx, w.place(""), work, nil)
			wantError(t, err, Unreachable, "another docker-credential-dtz is renewing this login and has not finished; try again")
			close(proceed)
			wg.Wait()
			before := w.exchanges()
			tt.check(w)
			if got := w.exchanges() - before; got != 0 {
				t.Errorf("%d exchanges, want none: the tokens were there", got)
			}
		})
	}
}

// docker login with a token for another context than the registry was in.
func TestDockerLoginGoesBeforeTheRegistrysContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	keep := func(contextID string) {
		t.Helper()
		_, err := w.process().Keep(w.ctx(), other, UserBearer, w.token(alice, contextID), store.FileName)
		w.must(err)
	}
	keep(work)
	place := w.place(string(other))
	_, err := w.process().UseContext(w.ctx(), place, home, []config.Address{other})
	w.must(err)
	w.mustGet(other, home)
	keep(home) // what get has just handed out
	w.mustGet(other, home)
	if got := w.process().OwnContexts(place)[other]; got != home {
		t.Errorf("its own context is %q, want %s: nothing was changed", got, home)
	}
	keep(work)
	w.mustGet(other, work)
}
