package session

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
)

func TestTwoContextsFromOneLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry, other)
	w.bind(other, func(b *config.Binding) { b.Context = home })
	var wg sync.WaitGroup
	for range 8 { // at the same time, when neither has a fresh token
		for address, contextID := range map[config.Address]string{registry: work, other: home} {
			wg.Go(func() {
				cred, err := w.get(address)
				if err != nil {
					t.Error(err)
					return
				}
				w.checkToken(cred, contextID)
			})
		}
	}
	wg.Wait()

	// Idle in its default context, and used in the other one, it stays alive.
	for range 8 {
		w.advance(20 * time.Hour)
		w.mustGet(other, home)
		if sent := w.lastSent(); !strings.Contains(sent, `"contextId":"`+home+`"`) {
			t.Errorf("sent %s, want the context in it", sent)
		}
	}
	w.mustGet(registry, work)
	if n := len(w.stored(w.place("")).Tokens); n != 2 {
		t.Errorf("%d tokens are kept, want one for each context", n)
	}
}

func TestContextOfARequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry, other)
	w.bind(other, func(b *config.Binding) { b.Context = home })
	for _, address := range []config.Address{registry, other} {
		for _, contextID := range []string{work, home, "home0001"} {
			cred, err := w.process().Credential(w.ctx(), Request{Address: address, Context: contextID})
			if err != nil {
				t.Fatal(err)
			}
			w.checkToken(cred, contextID)
		}
	}
	if n := w.exchanges(); n != 1 {
		t.Errorf("%d exchanges for the one context that there was no token for, want 1", n)
	}
}

// A registry whose context the user has lost: a classic build asks for it, too,
// before each of the others.
func TestContextThatIsRefusedStopsNoOther(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		login func(*world, ...config.Address)
		says  string
	}{
		{"with a password", (*world).login, "login refused in context context-bob00001 by the identity service: this identity may not use that context"},
		{"with a kept key", func(w *world, a ...config.Address) { w.loginKeep(a...) }, "the API key of this login was refused in context context-bob00001 by the identity service: this API key may not use that context"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.login(w, registry, other)
			w.bind(other, func(b *config.Binding) { b.Context = bobs })
			want := "127.0.0.1:5000: " + tt.says + `; run "docker-credential-dtz context list"`
			for range 12 {
				w.advance(3 * time.Hour)
				_, err := w.get(other)
				wantError(t, err, Refused, want)
				wantNotes(t, w.mustGet(registry, work))
			}
			w.advance(20 * time.Hour) // both at the same time
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() {
					_, err := w.get(other)
					wantError(t, err, Refused, want)
				})
				wg.Go(func() {
					cred, err := w.get(registry)
					if err != nil {
						t.Error(err)
						return
					}
					w.checkToken(cred, work)
					wantNotes(t, cred)
				})
			}
			wg.Wait()
		})
	}
}

// The key acts where it is told to, or not at all.
func TestContextOfAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry)
	w.bind(registry, func(b *config.Binding) { b.Context = home })
	env := "DTZ_API_KEY=" + w.apiKey(alice).Reveal()
	w.mustGet(registry, home, env)                         // the binding's
	w.mustGet(registry, work, env, "DTZ_CONTEXT_ID="+work) // the environment's
	cred, err := w.process(env, "DTZ_CONTEXT_ID="+work).Credential(w.ctx(), Request{Address: registry, Context: home})
	if err != nil {
		t.Fatal(err)
	}
	w.checkToken(cred, home) // the request's

	w = newWorld(t)
	w.breakWith(fault{answer: func(rw http.ResponseWriter, r *http.Request) { // as a service that ignores contextId
		rw.Header().Set("Date", monday.Format(http.TimeFormat))
		fmt.Fprintf(rw, `{"access_token":%q,"expires_in":3600}`, unsigned(alice, work, monday.Add(time.Hour)))
	}})
	_, err = w.get(registry, "DTZ_API_KEY="+w.apiKey(alice).Reveal(), "DTZ_CONTEXT_ID="+home)
	wantError(t, err, Unreachable, "cr.dtz.rocks: exchanging the API key: asked for a token in context "+home+", got one in "+work+
		`; run "docker-credential-dtz doctor"`)
}

// Whoever logs in as somebody who may use the context is not told of the
// refusal of a moment ago.
func TestSignInForgetsTheRefusalsOfEachContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry, other)
	w.bind(other, func(b *config.Binding) { b.Context = bobs })
	if _, err := w.get(other); outcomeOf(err) != Refused {
		t.Fatalf("error = %v, want a refusal", err)
	}
	w.signIn(w.place(""), w.passwordLogin("bob"), registry)
	w.mustGet(other, bobs)
}

func TestLoginAnswersWithTheOutcomesThatThereAre(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.loginKeep(registry)
	cred, err := w.process().Login(w.ctx(), w.place(""), home)
	if err != nil {
		t.Fatal(err)
	}
	w.checkToken(cred, home)
	w.advance(26 * time.Hour)
	w.breakWith(away)
	_, err = w.process().Login(w.ctx(), w.place(""), home)
	wantError(t, err, Unreachable, `identity service out of reach: dial tcp 127.0.0.1:1: connect: connection refused; run "docker-credential-dtz doctor"`)
	_, err = w.process().Login(w.ctx(), w.place("nobody"), "")
	wantError(t, err, NotLoggedIn, `not logged in; run "docker-credential-dtz login --insecure-storage --profile nobody"`)
}
