package session

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// A credential and a moment at which its renewal is due.
var dueRenewals = []struct {
	name    string
	prepare func(w *world) (env []string)
	stage   stage
}{
	{"an aging token", func(w *world) []string {
		w.login(registry)
		w.advance(2 * time.Hour)
		return nil
	}, aging},
	{"an urgent token", func(w *world) []string {
		w.login(registry)
		w.advance(24*time.Hour - 5*time.Minute)
		return nil
	}, urgent},
	{"a token that has ended, and a kept key", func(w *world) []string {
		w.loginKeep(registry)
		w.advance(48 * time.Hour)
		return nil
	}, useless},
	{"a key in the environment", func(w *world) []string {
		return []string{"DTZ_API_KEY=" + w.apiKey(alice).Reveal(), "DTZ_API_KEY_FALLBACK=off"}
	}, useless},
}

func TestOneRenewalForAll(t *testing.T) {
	t.Parallel()
	const processes = 32
	for _, due := range dueRenewals {
		for _, answer := range []struct {
			name     string
			fault    fault
			maxCalls int // a renewal tries again by itself when the service is away
			outcome  Outcome
		}{
			{"works", works, 1, ""},
			{"refuses", answers(http.StatusUnauthorized, "no"), 1, Refused},
			{"is overloaded", answers(http.StatusServiceUnavailable, "busy"), 3, Unreachable},
		} {
			t.Run(due.name+", and the identity service "+answer.name, func(t *testing.T) {
				w := newWorld(t)
				env := due.prepare(w)
				before := w.exchanges()
				w.breakWith(answer.fault)
				old := w.current(env)

				creds, errs := w.getAtOnce(processes, env)
				if got := w.exchanges() - before; got < 1 || got > answer.maxCalls {
					t.Errorf("%d calls for %d processes, want at most %d", got, processes, answer.maxCalls)
				}
				noted := 0
				for i, cred := range creds {
					switch {
					case answer.outcome != "" && due.stage == useless:
						if outcomeOf(errs[i]) != answer.outcome {
							t.Errorf("process %d got %v, want %s", i, errs[i], answer.outcome)
						}
						continue
					case errs[i] != nil:
						t.Errorf("process %d: %v", i, errs[i])
						continue
					}
					w.checkToken(cred, work)
					if answer.outcome == "" && cred.Secret == old || answer.outcome != "" && cred.Secret != old {
						t.Errorf("process %d got the wrong token of the two", i)
					}
					if creds[0] != nil && cred.Secret != creds[0].Secret {
						t.Errorf("process %d got another token than process 0", i)
					}
					noted += len(cred.Notes)
				}
				switch {
				case answer.outcome == "" && noted != 0, due.stage == aging && answer.outcome == Unreachable && noted != 0:
					t.Errorf("%d notes, want silence", noted)
				case due.stage == urgent && answer.outcome != "" && noted != processes:
					t.Errorf("%d notes, want one for each", noted)
				case due.stage == aging && answer.outcome == Refused && noted == 0:
					t.Errorf("nobody was told of the refusal")
				}
			})
		}
	}
}

// Two contexts of one login, each with its own registry, asked for by many at
// the same time: one call for each, and what becomes of one is not the other's.
func TestOneRenewalForEachContext(t *testing.T) {
	t.Parallel()
	const processes = 32
	for _, due := range dueRenewals[:3] { // those of a login
		for _, refused := range []string{"", home} {
			name := due.name + ", and both contexts are granted"
			if refused != "" {
				name = due.name + ", and one context is refused"
			}
			t.Run(name, func(t *testing.T) {
				w := newWorld(t)
				due.prepare(w)
				w.bind(port3214, func(b *config.Binding) {
					*b = config.Binding{Identity: w.url, Profile: config.DefaultProfile, Context: work}
				})
				w.bind(port3215, func(b *config.Binding) {
					*b = config.Binding{Identity: w.url, Profile: config.DefaultProfile, Context: home}
				})
				var mu sync.Mutex
				calls := map[string]int{}
				w.breakWith(fault{answer: func(rw http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					var sent struct{ ContextID string }
					if err := json.Unmarshal(body, &sent); err != nil {
						t.Error(err)
					}
					mu.Lock()
					calls[sent.ContextID]++
					mu.Unlock()
					if sent.ContextID == refused {
						answers(http.StatusForbidden, "not a member").answer(rw, r)
						return
					}
					r.Body = io.NopCloser(bytes.NewReader(body))
					w.service.ServeHTTP(rw, r)
				}})

				var wg sync.WaitGroup
				for i := range processes {
					address, contextID := config.Address(port3214), work
					if i%2 == 1 {
						address, contextID = port3215, home
					}
					wg.Go(func() {
						cred, err := w.get(address)
						switch {
						case contextID == refused:
							if outcomeOf(err) != Refused {
								t.Errorf("%s: error = %v, want a refusal", address, err)
							}
						case err != nil:
							t.Errorf("%s: %v", address, err)
						default:
							w.checkToken(cred, contextID)
							wantNotes(t, cred)
						}
					})
				}
				wg.Wait()
				if want := map[string]int{work: 1, home: 1}; !maps.Equal(calls, want) {
					t.Errorf("calls for each context: %v, want %v", calls, want)
				}
			})
		}
	}
}

// current is the token at hand, which may have ended.
func (w *world) current(env []string) secret.String {
	if login := w.stored(w.place("")); login != nil && len(env) == 0 {
		return login.Token(work).Access
	}
	return ""
}

// getAtOnce is one get in each of n processes.
func (w *world) getAtOnce(n int, env []string) ([]*Credential, []error) {
	creds, errs := make([]*Credential, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		p := w.process(env...)
		wg.Go(func() { creds[i], errs[i] = p.Credential(w.ctx(), Request{Address: registry}) })
	}
	wg.Wait()
	return creds, errs
}

// holdSlot is a process that took its turn on alice's login and never ends it.
func (w *world) holdSlot() {
	w.t.Helper()
	slot := store.LoginSlot(w.path("state"), store.Key{Identity: w.url, Profile: config.DefaultProfile})
	unlock, err := slot.Lock(w.ctx(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(unlock)
}

func TestRenewalOfAnotherProcessThatNeverEnds(t *testing.T) {
	t.Parallel()
	for _, due := range dueRenewals[:3] { // those of a login
		t.Run(due.name, func(t *testing.T) {
			w := newWorld(t)
			due.prepare(w)
			before, old := w.exchanges(), w.current(nil)
			w.holdSlot()
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			cred, err := w.process().Credential(ctx, Request{Address: registry})
			switch {
			case due.stage == useless:
				wantError(t, err, Unreachable, "cr.dtz.rocks: another docker-credential-dtz is renewing this login and has not finished; try again")
			case err != nil || cred.Secret != old:
				t.Errorf("the token at hand was not handed out: %v", err)
			case due.stage == aging:
				wantNotes(t, cred)
			default:
				wantNotes(t, cred, "the token ends in 5 minutes and was not renewed: another docker-credential-dtz is renewing")
			}
			if got := w.exchanges() - before; got != 0 {
				t.Errorf("%d exchanges out of turn", got)
			}
		})
	}
}

// Whoever has a valid token does not spend all its time on waiting for others.
func TestPatienceWithAnotherProcessEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry)
	w.advance(24*time.Hour - 5*time.Minute)
	w.holdSlot()
	ctx, began := w.ctx(), time.Now() // a minute
	if _, err := w.process().Credential(ctx, Request{Address: registry}); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 25*time.Second { // of the five that it may, on a busy machine
		t.Errorf("it waited for %v", took)
	}
}

// Who asked while another renewed does not do its work again.
func TestWaitingProcessUsesTheRenewalOfAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry)
	w.advance(24*time.Hour - 5*time.Minute)
	arrived, proceed := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.breakWith(fault{answer: func(rw http.ResponseWriter, r *http.Request) {
		once.Do(func() { close(arrived) })
		<-proceed
		w.service.ServeHTTP(rw, r)
	}})
	before := w.exchanges()
	answers := make(chan *Credential, 2)
	get := func() {
		cred, err := w.get(registry)
		if err != nil {
			t.Error(err)
		}
		answers <- cred
	}
	go get()
	<-arrived
	w.advance(time.Second) // asked later, and yet before the answer
	go get()
	close(proceed)
	if a, b := <-answers, <-answers; a == nil || b == nil || a.Secret != b.Secret || len(a.Notes)+len(b.Notes) > 0 {
		t.Errorf("answers %+v and %+v, want the same new token", a, b)
	}
	if got := w.exchanges() - before; got != 1 {
		t.Errorf("%d exchanges, want 1", got)
	}
}
