package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// identity is an identity service that counts.
type identity struct {
	calls  atomic.Int32
	delay  time.Duration
	answer func(apiKey string) (token string, err error)
}

func (i *identity) exchange(ctx context.Context, apiKey, contextID string) (string, error) {
	i.calls.Add(1)
	select {
	case <-time.After(i.delay):
		token, err := i.answer(apiKey)
		if err == nil && contextID != "" {
			token = withClaims(goodClaims.with("scope", `"`+contextID+`"`).with("iat", unix(time.Now())).with("exp", unix(time.Now().Add(time.Hour))))
		}
		return token, err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// newAuthenticator goes by the clock of the test's synctest bubble, without
// leeway.
func newAuthenticator(t testing.TB, i *identity) *Authenticator {
	c := testConfig()
	c.Now = time.Now
	c.Leeway = 0
	return &Authenticator{Verifier: newVerifier(t, c), Exchange: i.exchange}
}

// tokenFor is a token that is good for life, from now.
func tokenFor(life time.Duration) string {
	now := time.Now()
	return withClaims(goodClaims.with("iat", unix(now)).with("exp", unix(now.Add(life))))
}

func always(life time.Duration) func(string) (string, error) {
	return func(string) (string, error) { return tokenFor(life), nil }
}

// ask is one request with an API key.
func ask(ctx context.Context, a *Authenticator, apiKey string) (*Profile, error) {
	r := httptest.NewRequest("GET", "/v2/", nil).WithContext(ctx)
	r.Header.Set("Authorization", basic("apikey", apiKey))
	return a.Authenticate(r)
}

func isRefused(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == http.StatusUnauthorized
}

func TestOneExchangeForManyRequests(t *testing.T) {
	outcomes := []struct {
		name   string
		answer func(string) (string, error)
		check  func(*Profile, error) bool
	}{
		{"accepted", always(time.Hour), func(p *Profile, err error) bool { return p != nil && err == nil }},
		{"refused", func(string) (string, error) { return "", fmt.Errorf("401: %w", ErrKeyRefused) }, func(p *Profile, err error) bool { return p == nil && isRefused(err) }},
		{"away", func(string) (string, error) { return "", errAway }, func(p *Profile, err error) bool { return p == nil && errors.Is(err, errAway) && !isRefused(err) }},
	}
	for _, tt := range outcomes {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				service := &identity{delay: time.Second, answer: tt.answer}
				a := newAuthenticator(t, service)
				var all sync.WaitGroup
				for range 32 {
					all.Go(func() {
						if p, err := ask(t.Context(), a, goodKey); !tt.check(p, err) {
							t.Errorf("%v, %v", p, err)
						}
					})
				}
				all.Wait()
				if got := service.calls.Load(); got != 1 {
					t.Errorf("%d exchanges, want 1", got)
				}
				if len(a.flights) != 0 {
					t.Errorf("%d exchanges are still under way", len(a.flights))
				}
			})
		})
	}
}

// Who holds a key could otherwise make an exchange for each spelling of the
// header around it.
func TestAKeyIsExchangedOnceHoweverItIsSpelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, answer := range []func(string) (string, error){always(time.Hour), func(string) (string, error) { return "", ErrKeyRefused }} {
			service := &identity{delay: time.Second, answer: answer}
			a := newAuthenticator(t, service)
			encoded := strings.TrimPrefix(basic("apikey", goodKey), "Basic ")
			for range 2 { // the second time from a cache
				var all sync.WaitGroup
				for n := range 1 << len("basic") {
					scheme := []byte("basic")
					for i := range scheme {
						if n>>i&1 == 1 {
							scheme[i] -= 'a' - 'A'
						}
					}
					all.Go(func() {
						r := httptest.NewRequest("GET", "/v2/", nil)
						r.Header.Set("Authorization", string(scheme)+" "+encoded)
						if p, err := a.Authenticate(r); p == nil && !isRefused(err) {
							t.Errorf("%s: %v", scheme, err)
						}
					})
				}
				all.Wait()
			}
			if got := service.calls.Load(); got != 1 {
				t.Errorf("%d exchanges, want 1", got)
			}
			if len(a.tokens.entries) != 0 || len(a.keys.entries)+len(a.refused.entries) != 1 {
				t.Errorf("%d tokens, %d keys and %d refusals are kept, want one", len(a.tokens.entries), len(a.keys.entries), len(a.refused.entries))
			}
		}
	})
}

func TestAKeyInTwoContextsIsTwoExchanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := &identity{delay: time.Second, answer: always(time.Hour)}
		a := newAuthenticator(t, service)
		for range 2 {
			var all sync.WaitGroup
			for _, id := range []string{"context-abc12345", "context-zzz99999"} {
				all.Go(func() {
					r := httptest.NewRequest("GET", "/v2/", nil).WithContext(t.Context())
					r.Header.Set("X-API-KEY", goodKey)
					r.Header.Set("X-DTZ-CONTEXT", id)
					p, err := a.Authenticate(r)
					if err != nil || p.Context != id {
						t.Errorf("in %s: %+v, %v", id, p, err)
					}
				})
			}
			all.Wait()
		}
		if got := service.calls.Load(); got != 2 {
			t.Errorf("%d exchanges, want 2", got)
		}
	})
}

func TestTwoKeysAreTwoExchanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := &identity{delay: time.Second, answer: func(apiKey string) (string, error) {
			if apiKey != goodKey {
				return "", ErrKeyRefused
			}
			return tokenFor(time.Hour), nil
		}}
		a := newAuthenticator(t, service)
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := ask(t.Context(), a, goodKey); err != nil {
				t.Errorf("the good key: %v", err)
			}
		})
		all.Go(func() {
			if _, err := ask(t.Context(), a, goodKey+"x"); !isRefused(err) {
				t.Errorf("the bad key: %v, want it refused", err)
			}
		})
		all.Wait()
		if got := service.calls.Load(); got != 2 {
			t.Errorf("%d exchanges, want 2", got)
		}
	})
}

// Whoever waits for an exchange leaves when its own request ends, even the one
// that began it. The others get their answer.
func TestACancelledRequestLeavesTheExchangeToTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := &identity{delay: 5 * time.Second, answer: always(time.Hour)}
		a := newAuthenticator(t, service)
		start := time.Now()
		first, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() {
			_, err := ask(first, a, goodKey)
			if !errors.Is(err, context.DeadlineExceeded) || isRefused(err) {
				t.Errorf("the first: %v, want its deadline", err)
			}
			if waited := time.Since(start); waited != time.Second {
				t.Errorf("the first waited %v, want 1s", waited)
			}
		})
		synctest.Wait() // the first has begun the exchange
		all.Go(func() {
			if _, err := ask(t.Context(), a, goodKey); err != nil {
				t.Errorf("the second: %v", err)
			}
			if waited := time.Since(start); waited != 5*time.Second {
				t.Errorf("the second waited %v, want 5s", waited)
			}
		})
		all.Wait()
		if got := service.calls.Load(); got != 1 {
			t.Errorf("%d exchanges, want 1", got)
		}
	})
}

func TestAnExchangeEndsAfterTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := &identity{delay: time.Hour, answer: always(time.Hour)}
		a := newAuthenticator(t, service)
		start := time.Now()
		if _, err := ask(t.Context(), a, goodKey); !errors.Is(err, context.DeadlineExceeded) || isRefused(err) {
			t.Errorf("%v, want a deadline", err)
		}
		if waited := time.Since(start); waited != 10*time.Second {
			t.Errorf("waited %v, want 10s", waited)
		}
	})
}

func TestHowLongAnOutcomeIsKept(t *testing.T) {
	tests := []struct {
		name   string
		answer func(string) (string, error)
		ttl    time.Duration // of the Authenticator
		kept   time.Duration // by when the next exchange is due; 0 is at once
	}{
		{"accepted", always(time.Hour), 0, 5 * time.Minute},
		{"accepted, with a TTL", always(time.Hour), time.Minute, time.Minute},
		{"accepted, with a token that ends before the TTL", always(20 * time.Second), time.Minute, 20 * time.Second},
		{"refused", func(string) (string, error) { return "", ErrKeyRefused }, 0, 10 * time.Second},
		{"away", func(string) (string, error) { return "", errAway }, 0, 0},
		{"answered with an expired token", always(0), 0, 0},
		{"answered with no token", func(string) (string, error) { return "", nil }, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				service := &identity{answer: tt.answer}
				a := newAuthenticator(t, service)
				a.APIKeyTTL = tt.ttl
				_, want := ask(t.Context(), a, goodKey)

				// Steady use does not prolong it.
				for begin := time.Now(); time.Since(begin) < tt.kept-time.Second; time.Sleep(time.Second) {
					if _, err := ask(t.Context(), a, goodKey); errorText(err) != errorText(want) {
						t.Fatalf("after %v: %v, want %v", time.Since(begin), err, want)
					}
				}
				time.Sleep(min(tt.kept, time.Second-time.Nanosecond))
				if _, err := ask(t.Context(), a, goodKey); tt.kept > 0 && (errorText(err) != errorText(want) || service.calls.Load() != 1) {
					t.Fatalf("just before %v: %v after %d exchanges, want %v after 1", tt.kept, err, service.calls.Load(), want)
				}
				calls := service.calls.Load()
				time.Sleep(time.Nanosecond)
				if _, err := ask(t.Context(), a, goodKey); errorText(err) != errorText(want) {
					t.Errorf("after %v: %v, want %v", tt.kept, err, want)
				}
				if got := service.calls.Load() - calls; got != 1 {
					t.Errorf("%d exchanges after %v, want 1", got, tt.kept)
				}
			})
		})
	}
}

// While the identity service is away, tokens and known keys go on; unknown
// keys are not called refused, and known ones end in time.
func TestTheIdentityServiceGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := false
		service := &identity{answer: func(string) (string, error) {
			if away {
				return "", errAway
			}
			return tokenFor(time.Hour), nil
		}}
		a := newAuthenticator(t, service)
		if _, err := ask(t.Context(), a, goodKey); err != nil {
			t.Fatal(err)
		}
		away = true
		if _, err := ask(t.Context(), a, goodKey); err != nil {
			t.Errorf("a known key: %v", err)
		}
		if _, err := ask(t.Context(), a, "apikey-new00000"); !errors.Is(err, errAway) || isRefused(err) {
			t.Errorf("an unknown key: %v, want %v", err, errAway)
		}
		r := httptest.NewRequest("GET", "/v2/", nil)
		r.Header.Set("Authorization", "Bearer "+tokenFor(time.Hour))
		if _, err := a.Authenticate(r); err != nil {
			t.Errorf("a token: %v", err)
		}
		time.Sleep(5 * time.Minute)
		if _, err := ask(t.Context(), a, goodKey); !errors.Is(err, errAway) || isRefused(err) {
			t.Errorf("a known key after its time: %v, want %v", err, errAway)
		}
		away = false
		if _, err := ask(t.Context(), a, goodKey); err != nil {
			t.Errorf("after the service has come back: %v", err)
		}
	})
}

// The token that comes for a key has to be for the context that was asked for.
func TestATokenForAnotherContext(t *testing.T) {
	a := &Authenticator{Verifier: newVerifier(t, testConfig()), Exchange: func(_ context.Context, _, contextID string) (string, error) {
		if contextID != "" && contextID != "context-def67890" {
			t.Errorf("asked for %q, want the canonical id", contextID)
		}
		return goodToken(), nil // in context-abc12345, whatever was asked for
	}}
	for contextID, want := range map[string]bool{"": true, "def67890": false} {
		r := httptest.NewRequest("GET", "/v2/", nil)
		r.Header.Set("X-API-KEY", goodKey)
		r.Header.Set("X-DTZ-CONTEXT", contextID)
		if _, err := a.Authenticate(r); (err == nil) != want || isRefused(err) {
			t.Errorf("asked for %q: %v", contextID, err)
		}
	}
	if s := a.Stats(); s.Exchanges != 2 || s.ExchangesFailed != 1 || s.ExchangesRefused != 0 {
		t.Errorf("%+v, want one of two to have failed", s)
	}
}

// What finds the address may be wrong about a request. The server recovers, and
// nobody waits for an exchange that has never begun.
func TestClientAddrPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthenticator(t, &identity{answer: always(time.Hour)})
		a.ClientAddr = func(*http.Request) netip.Addr { panic("no address") }
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic is swallowed")
				}
			}()
			_, _ = ask(t.Context(), a, goodKey)
		}()
		a.ClientAddr = nil
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := ask(ctx, a, goodKey); err != nil {
			t.Errorf("the next request: %v", err)
		}
		synctest.Wait()
		checkIdle(t, a)
	})
}

// What Exchange does wrong ends neither the process nor later requests, and its
// words, which may quote the key, are not repeated.
func TestExchangeFailsBadly(t *testing.T) {
	tests := []struct {
		name     string
		exchange func(apiKey string)
		want     string
	}{
		{"it panics with the key", func(apiKey string) { panic("cannot parse " + apiKey) }, "exchanging an API key: panic in Exchange: string"},
		{"it panics with an error", func(apiKey string) { panic(errors.New(apiKey)) }, "exchanging an API key: panic in Exchange: *errors.errorString"},
		{"it reads behind the end", func(apiKey string) { _ = []byte(apiKey)[len(apiKey)] }, "exchanging an API key: panic in Exchange: runtime error: index out of range [15] with length 15"},
		{"it ends its goroutine", func(string) { runtime.Goexit() }, "exchanging an API key: Exchange has not returned"},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			broken := true
			a := newAuthenticator(t, &identity{})
			a.Exchange = func(_ context.Context, apiKey, _ string) (string, error) {
				if broken {
					tt.exchange(apiKey)
				}
				return tokenFor(time.Hour), nil
			}
			for range maxExchanges + 1 { // it keeps no place
				if _, err := ask(t.Context(), a, goodKey); errorText(err) != tt.want {
					t.Fatalf("%s: %v, want %q", tt.name, err, tt.want)
				}
			}
			broken = false
			if _, err := ask(t.Context(), a, goodKey); err != nil {
				t.Errorf("%s: later: %v", tt.name, err)
			}
			synctest.Wait()
			checkIdle(t, a)
		})
	}
}

func TestWithoutExchangeAPIKeysAreRefused(t *testing.T) {
	a := &Authenticator{Verifier: newVerifier(t, testConfig())}
	if _, err := ask(t.Context(), a, goodKey); !isRefused(err) || err.Error() != "API keys are not accepted here" {
		t.Errorf("%v, want it refused", err)
	}
}
