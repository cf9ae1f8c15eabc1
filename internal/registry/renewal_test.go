package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// knowKeys has n keys accepted, and their outcomes expire.
func knowKeys(t *testing.T, a *Authenticator, n int) {
	t.Helper()
	for i := range n {
		if err := askFrom(t.Context(), a, floodAddr, fmt.Sprint("apikey-good", i)); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(defaultAPIKeyTTL)
}

// When all keys have to be renewed at once, as after a signing key has been
// withdrawn, the identity service is not asked for all of them at once. Who
// would wait too long hears that it cannot be told, and not that he tries keys.
func TestRenewalsAtATime(t *testing.T) {
	tests := []struct {
		name     string
		delay    time.Duration // of the identity service
		renewed  int           // in time, of 3 times what may run
		is       func(error) bool
		whenLate time.Duration
	}{
		{"the identity service answers", time.Second, 3 * maxRenewals, nil, 0},
		{"the identity service is slow", 4 * time.Second, 2 * maxRenewals, func(err error) bool { return err == errBusy }, maxWait},
		{"the identity service does not answer", 9 * time.Second, maxRenewals, func(err error) bool { return err == errNoAnswer }, maxWait},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			service := &identity{answer: onlyGood}
			a := newAuthenticator(t, service)
			knowKeys(t, a, 3*maxRenewals)
			service.delay = tt.delay
			var load load
			exchange := a.Exchange
			a.Exchange = func(ctx context.Context, apiKey, contextID string) (string, error) {
				defer load.begin()()
				return exchange(ctx, apiKey, contextID)
			}
			start := time.Now()
			var all sync.WaitGroup
			var renewed atomic.Int32
			for n := range 3 * maxRenewals {
				all.Go(func() {
					err := askFrom(t.Context(), a, floodAddr, fmt.Sprint("apikey-good", n))
					switch {
					case err == nil:
						renewed.Add(1)
					case tt.is == nil || !tt.is(err) || refusal(err).Status != http.StatusServiceUnavailable || time.Since(start) != tt.whenLate:
						t.Errorf("%s: after %v: %v", tt.name, time.Since(start), err)
					}
				})
			}
			all.Wait()
			synctest.Wait()
			if renewed.Load() != int32(tt.renewed) || load.most != maxRenewals {
				t.Errorf("%s: %d are renewed, want %d; %d at a time, want %d", tt.name, renewed.Load(), tt.renewed, load.most, maxRenewals)
			}
			if got := a.Stats().Limited; got != 0 {
				t.Errorf("%s: %d count as limited", tt.name, got)
			}
			checkIdle(t, a)
		})
	}
}

// A renewal that waits ends with its request, and makes no exchange.
func TestWhoeverHangsUpLeavesTheRenewals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := &identity{answer: onlyGood}
		a := newAuthenticator(t, service)
		knowKeys(t, a, 2*maxRenewals)
		before := service.calls.Load()
		service.delay = time.Second
		ctx, hangUp := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for n := range 2 * maxRenewals {
			all.Go(func() {
				if err := askFrom(ctx, a, floodAddr, fmt.Sprint("apikey-good", n)); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		hangUp()
		all.Wait()
		time.Sleep(service.delay)
		synctest.Wait()
		if got := service.calls.Load() - before; got != maxRenewals {
			t.Errorf("%d exchanges, want the %d that had begun", got, maxRenewals)
		}
		checkIdle(t, a)
	})
}

// A key that is known is exchanged with whatever else is going on. One that has
// been refused since is unknown again, and so is it in another context.
func TestWhichKeysAreKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		revoked := false
		service := &identity{answer: func(string) (string, error) {
			if revoked {
				return "", ErrKeyRefused
			}
			return tokenFor(time.Hour), nil
		}}
		a := newAuthenticator(t, service)
		known := func(contextID string) bool {
			_, ok := a.known.get(newCacheKey(string(kindAPIKey), goodKey, contextID), time.Now())
			return ok
		}
		if known("") {
			t.Error("known before it was asked for")
		}
		if _, err := ask(t.Context(), a, goodKey); err != nil || !known("") || known("context-abc12345") {
			t.Errorf("%v; known: %v, in another context: %v", err, known(""), known("context-abc12345"))
		}
		time.Sleep(knownTTL - time.Second)
		if !known("") {
			t.Error("forgotten within a day")
		}
		time.Sleep(time.Second)
		if known("") {
			t.Error("known for more than a day")
		}
		if _, err := ask(t.Context(), a, goodKey); err != nil || !known("") {
			t.Error(err)
		}
		revoked = true
		time.Sleep(defaultAPIKeyTTL)
		if _, err := ask(t.Context(), a, goodKey); !isRefused(err) || known("") {
			t.Errorf("revoked: %v; known: %v", err, known(""))
		}
	})
}
