package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
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
	if contextID != "" {
		return "", fmt.Errorf("asked for context %q, which nobody wanted", contextID)
	}
	select {
	case <-time.After(i.delay):
		return i.answer(apiKey)
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

func TestASeenTokenEndsWithItsLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthenticator(t, nil)
		r := httptest.NewRequest("GET", "/v2/", nil)
		r.Header.Set("Authorization", "Bearer "+tokenFor(20*time.Second))
		for range 20 {
			if _, err := a.Authenticate(r); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if _, err := a.Authenticate(r); !hasRule(err, RuleExpired) {
			t.Errorf("after 20 s: %v, want it expired", err)
		}
	})
}

func TestWithoutExchangeAPIKeysAreRefused(t *testing.T) {
	a := &Authenticator{Verifier: newVerifier(t, testConfig())}
	if _, err := ask(t.Context(), a, goodKey); !isRefused(err) || err.Error() != `API keys are not accepted here; run "docker-credential-dtz login"` {
		t.Errorf("%v, want it refused", err)
	}
}

// An attacker may try keys for ever: they take bounded memory, and displace no
// good one.
func TestAFloodOfBadKeysDisplacesNoGoodOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := &identity{answer: func(apiKey string) (string, error) {
			if apiKey != goodKey {
				return "", ErrKeyRefused
			}
			return tokenFor(time.Hour), nil
		}}
		a := newAuthenticator(t, service)
		if _, err := ask(t.Context(), a, goodKey); err != nil {
			t.Fatal(err)
		}
		for n := range 2 * cacheSize {
			if _, err := ask(t.Context(), a, fmt.Sprint("apikey-", n)); !isRefused(err) {
				t.Fatal(err)
			}
		}
		if got := len(a.refused.entries); got != cacheSize {
			t.Errorf("%d refusals are kept, want %d", got, cacheSize)
		}
		calls := service.calls.Load()
		if _, err := ask(t.Context(), a, goodKey); err != nil || service.calls.Load() != calls {
			t.Errorf("the good key: %v after %d more exchanges, want it known", err, service.calls.Load()-calls)
		}
	})
}

// One credential in two sources is two: what the second is refused for may
// not be known from the first.
func TestCacheKey(t *testing.T) {
	long := strings.Repeat("a", 2000)
	keys := map[cacheKey]string{}
	for _, source := range []string{"Authorization header", "Cookie"} {
		for _, value := range []string{"", "a", long, long + "a", long[:511] + "b" + long[512:], long[:512] + "b" + long[513:]} {
			what := source + ": " + value
			key := newCacheKey(source, value)
			if other, ok := keys[key]; ok {
				t.Errorf("%q and %q have one key", what, other)
			}
			if key != newCacheKey(source, strings.Clone(value)) {
				t.Errorf("%q has two keys", what)
			}
			keys[key] = what
		}
	}
}

func TestASeenTokenCostsNoAllocation(t *testing.T) {
	a := &Authenticator{Verifier: newVerifier(t, testConfig())}
	r := httptest.NewRequest("GET", "/v2/", nil)
	r.Header.Set("Authorization", basic("bearer", tokenOfSize(1<<10)))
	allocations := testing.AllocsPerRun(100, func() {
		if _, err := a.Authenticate(r); err != nil {
			t.Fatal(err)
		}
	})
	if allocations != 0 {
		t.Errorf("%v allocations, want none", allocations)
	}
}
