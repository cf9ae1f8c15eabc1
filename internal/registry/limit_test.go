package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// askFrom is one request with an API key from an address.
func askFrom(ctx context.Context, a *Authenticator, addr, apiKey string) error {
	r := httptest.NewRequest("GET", "/v2/", nil).WithContext(ctx)
	r.RemoteAddr = addr
	r.Header.Set("X-API-KEY", apiKey)
	_, err := a.Authenticate(r)
	return err
}

func isLimited(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == http.StatusTooManyRequests && e.RetryAfter > 0
}

// onlyGood is an identity service that knows keys that begin with "apikey-good".
func onlyGood(apiKey string) (string, error) {
	if len(apiKey) < 11 || apiKey[:11] != "apikey-good" {
		return "", ErrKeyRefused
	}
	return tokenFor(time.Hour), nil
}

const (
	floodAddr = "192.0.2.1:1000"
	otherAddr = "192.0.2.2:1000"
)

// A client with 500 connections, who never shows a key twice, makes others wait
// a little, and stops nobody: neither a known key, nor a new one behind the same
// address, nor anybody elsewhere.
func TestAFloodOfUnknownKeysStopsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := &identity{delay: 50 * time.Millisecond, answer: onlyGood}
		a := newAuthenticator(t, service)
		if err := askFrom(t.Context(), a, floodAddr, "apikey-goodknown"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(defaultAPIKeyTTL) // the known key has to be renewed
		flooding, stop := context.WithCancel(t.Context())
		var flood sync.WaitGroup
		var refusals atomic.Int32
		for n := range 500 {
			flood.Go(func() {
				for i := 0; flooding.Err() == nil; i++ {
					err := askFrom(flooding, a, floodAddr, fmt.Sprintf("apikey-bad-%d-%d", n, i))
					if isRefused(err) {
						refusals.Add(1)
					} else if flooding.Err() == nil {
						t.Errorf("the flood gets %v", err)
					}
				}
			})
		}
		time.Sleep(10 * time.Second)
		tests := []struct {
			name, addr, apiKey string
			wait               time.Duration // at most
		}{
			{"a known key's renewal", floodAddr, "apikey-goodknown", 50 * time.Millisecond},
			{"a new key behind the same address", floodAddr, "apikey-good1111", maxWait},
			{"another new key behind the same address", floodAddr, "apikey-good2222", maxWait},
			{"a new key from elsewhere", otherAddr, "apikey-good3333", 100 * time.Millisecond},
		}
		for _, tt := range tests {
			start := time.Now()
			if err := askFrom(t.Context(), a, tt.addr, tt.apiKey); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			if waited := time.Since(start); waited > tt.wait {
				t.Errorf("%s waits %v, want %v at most", tt.name, waited, tt.wait)
			}
		}
		stop()
		flood.Wait()
		time.Sleep(service.delay) // for what has begun
		synctest.Wait()
		if refusals.Load() == 0 {
			t.Error("the flood was not answered")
		}
		checkIdle(t, a)
	})
}

// checkIdle finds what an Authenticator has not let go of.
func checkIdle(t *testing.T, a *Authenticator) {
	t.Helper()
	for name, l := range map[string]*limiter{"unknown keys": &a.unknowns, "renewals": &a.renewals} {
		if len(a.flights) != 0 || l.running != 0 || l.waiting != 0 || len(l.queues) != 0 || len(l.turns) != 0 {
			t.Errorf("%s: %d flights, %d running, %d waiting, %d queues, %d turns are left", name, len(a.flights), l.running, l.waiting, len(l.queues), len(l.turns))
		}
	}
}

// A load is how many exchanges run, and the most that have.
type load struct {
	mu            sync.Mutex
	running, most int
}

func (l *load) begin() (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running++
	l.most = max(l.most, l.running)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.running--
	}
}

// The identity service is not asked for more at a time than it bears, by one
// address or by all.
func TestExchangesAtATime(t *testing.T) {
	for addresses, want := range map[int]int{1: maxShare, 2: 2 * maxShare, 100: maxExchanges} {
		synctest.Test(t, func(t *testing.T) {
			var load load
			a := newAuthenticator(t, &identity{})
			a.Exchange = func(context.Context, string, string) (string, error) {
				defer load.begin()()
				time.Sleep(10 * time.Millisecond)
				return "", ErrKeyRefused
			}
			var all sync.WaitGroup
			for n := range 200 {
				all.Go(func() {
					addr := fmt.Sprintf("192.0.2.%d:1", n%addresses)
					if err := askFrom(t.Context(), a, addr, fmt.Sprint("apikey-", n)); !isRefused(err) {
						t.Error(err)
					}
				})
			}
			all.Wait()
			synctest.Wait()
			if got := load.most; got != want {
				t.Errorf("from %d addresses: %d at a time, want %d", addresses, got, want)
			}
			checkIdle(t, a)
		})
	}
}

// Who would wait too long is told when to come back, and an exchange that has
// not begun by then never does. Where not one has been answered, it is not for
// others that he has waited.
func TestAWaitThatIsTooLong(t *testing.T) {
	tests := []struct {
		name      string
		delay     time.Duration // of the identity service
		exchanges int32         // of 10 times the share
		is        func(error) bool
	}{
		{"the identity service is slow", 1500 * time.Millisecond, 4 * maxShare, isLimited},
		{"the identity service does not answer", 9 * time.Second, maxShare, func(err error) bool { return err == errNoAnswer }},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			service := &identity{delay: tt.delay, answer: onlyGood}
			a := newAuthenticator(t, service)
			start := time.Now()
			var all sync.WaitGroup
			var late, refused atomic.Int32
			for n := range 10 * maxShare {
				for range 2 { // two wait for each
					all.Go(func() {
						err := askFrom(t.Context(), a, floodAddr, fmt.Sprint("apikey-", n))
						switch {
						case tt.is(err) && time.Since(start) == maxWait:
							late.Add(1)
						case isRefused(err):
							refused.Add(1)
						default:
							t.Errorf("%s: after %v: %v", tt.name, time.Since(start), err)
						}
					})
				}
			}
			all.Wait()
			synctest.Wait()
			if late.Load() != 2*(10*maxShare-tt.exchanges) || refused.Load() != 2*tt.exchanges || service.calls.Load() != tt.exchanges {
				t.Errorf("%s: %d come late and %d are refused after %d exchanges", tt.name, late.Load(), refused.Load(), service.calls.Load())
			}
			if got, limited := a.Stats().Limited, tt.is(errLimited); limited && got != uint64(late.Load()) || !limited && got != 0 {
				t.Errorf("%s: Stats().Limited = %d", tt.name, got)
			}
			checkIdle(t, a)
		})
	}
}

// What nobody waits for any more takes no place and makes no exchange, so that
// a client gains nothing by hanging up.
func TestWhoeverHangsUpLeavesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := &identity{delay: time.Second, answer: onlyGood}
		a := newAuthenticator(t, service)
		ctx, hangUp := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for n := range 100 {
			all.Go(func() {
				if err := askFrom(ctx, a, floodAddr, fmt.Sprint("apikey-", n)); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		var shared sync.WaitGroup
		shared.Go(func() { // waits for the same as one of them, who leaves
			if err := askFrom(t.Context(), a, floodAddr, "apikey-99"); !isRefused(err) {
				t.Error(err)
			}
		})
		synctest.Wait()
		if got := a.Stats().Waiting; got != 100-maxShare {
			t.Errorf("%d wait, want %d", got, 100-maxShare)
		}
		hangUp()
		all.Wait()
		start := time.Now()
		if err := askFrom(t.Context(), a, floodAddr, "apikey-good1111"); err != nil {
			t.Error(err)
		}
		if waited := time.Since(start); waited != 2*time.Second {
			t.Errorf("waited %v, want what has begun and no more", waited)
		}
		shared.Wait()
		synctest.Wait()
		if got, most := service.calls.Load(), int32(maxShare+2); got > most {
			t.Errorf("%d exchanges, want %d at most", got, most)
		}
		checkIdle(t, a)
	})
}

// The room for waiting is bounded. When it is full, it is he who fills it that
// gets no more.
func TestTheRoomIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := &identity{delay: time.Second, answer: onlyGood}
		a := newAuthenticator(t, service)
		goroutines := runtime.NumGoroutine()
		var flood sync.WaitGroup
		var limited atomic.Int32
		for n := range maxWaiting + maxShare + 10 {
			flood.Go(func() {
				if isLimited(askFrom(t.Context(), a, floodAddr, fmt.Sprint("apikey-", n))) {
					limited.Add(1)
				}
			})
		}
		synctest.Wait()
		if got := limited.Load(); got != 10 {
			t.Errorf("%d are refused at once, want 10", got)
		}
		if got := a.Stats().Waiting; got != maxWaiting {
			t.Errorf("%d wait, want %d", got, maxWaiting)
		}
		if got, most := runtime.NumGoroutine()-goroutines, maxWaiting+2*maxShare+10; got > most {
			t.Errorf("%d goroutines, want no more than requests and exchanges, %d", got, most)
		}
		for n := range 20 { // somebody else finds room
			flood.Go(func() {
				if err := askFrom(t.Context(), a, otherAddr, fmt.Sprint("apikey-good", n)); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if got := limited.Load(); got != 10+20-maxShare {
			t.Errorf("%d are refused, want as many more as others wait", got)
		}
		flood.Wait()
		synctest.Wait()
		checkIdle(t, a)
	})
}

func TestAddressOf(t *testing.T) {
	tests := []struct {
		name string
		a, b string
		same bool
	}{
		{"one address", "192.0.2.1", "192.0.2.1", true},
		{"neighbours", "192.0.2.1", "192.0.2.2", false},
		{"an IPv4 address in IPv6", "192.0.2.1", "::ffff:192.0.2.1", true},
		{"one IPv6 network", "2001:db8:0:1::1", "2001:db8:0:1:ffff::", true},
		{"IPv6 networks of one site", "2001:db8:1::1", "2001:db8:1:ffff::1", true},
		{"neighbouring IPv6 sites", "2001:db8:1::1", "2001:db8:2::1", false},
		{"zones of one network", "fe80::1%eth0", "fe80::2%eth1", true},
	}
	for _, tt := range tests {
		a, b := addressOf(netip.MustParseAddr(tt.a)), addressOf(netip.MustParseAddr(tt.b))
		if (a == b) != tt.same {
			t.Errorf("%s: %v and %v", tt.name, a, b)
		}
	}
	if got := addressOf(netip.Addr{}); got != (netip.Prefix{}) {
		t.Errorf("no address is %v", got)
	}
}

func TestClientAddr(t *testing.T) {
	a := &Authenticator{}
	r := httptest.NewRequest("GET", "/v2/", nil)
	for remote, want := range map[string]string{"192.0.2.1:80": "192.0.2.1", "[2001:db8::1]:80": "2001:db8::1", "@": "invalid IP", "": "invalid IP"} {
		r.RemoteAddr = remote
		if got := a.clientAddr(r).String(); got != want {
			t.Errorf("%q is %s, want %s", remote, got, want)
		}
	}
	a.ClientAddr = func(*http.Request) netip.Addr { return netip.MustParseAddr("192.0.2.9") }
	if got := a.clientAddr(r).String(); got != "192.0.2.9" {
		t.Errorf("%s, want what ClientAddr says", got)
	}
}
