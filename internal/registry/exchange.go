package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"runtime"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
)

const (
	defaultAPIKeyTTL = 5 * time.Minute
	// refusalTTL is how long a refused API key is refused unasked.
	refusalTTL = 10 * time.Second
	// knownTTL is how long an accepted API key counts as known, so that its
	// renewal waits for no unknown one.
	knownTTL = 24 * time.Hour
	// exchangeTimeout is for one exchange, whoever waits for it.
	exchangeTimeout = 10 * time.Second
)

// ErrKeyRefused is what Authenticator.Exchange returns, or wraps, for an API
// key that the identity service refuses.
var ErrKeyRefused = errors.New("API key refused")

// refuseKey tells the client the same, whoever refuses the key.
func refuseKey(why error) *Error {
	return unauthorized("API key refused; check it, or replace it by a new one", why)
}

var errNoAnswer = fmt.Errorf("exchanging an API key: no exchange has been answered for %v", maxWait)

// errBusy is for a key that was good the last time.
var errBusy = errors.New("exchanging an API key: too many others are being renewed")

var errKeyDenied = errors.New("API key is on the deny-list")

// A flight is an exchange that is under way, or waits to be.
type flight struct {
	done    chan struct{} // closed when outcome is there
	outcome outcome
	waiting int     // how many requests wait for it; the Authenticator's mu guards it
	ticket  *ticket // nil if there was no room
}

// exchanged is the outcome for an API key: known, or of one exchange for all
// requests that wait for it. A request stops waiting when its context ends.
// Then the exchange goes on for the others, and for the next; one that has not
// begun, and that nobody waits for, never does.
func (a *Authenticator) exchanged(r *http.Request, c credential) (*Profile, error) {
	if a.Exchange == nil {
		return nil, unauthorized("API keys are not accepted here", nil)
	}
	key := newCacheKey(string(c.kind), c.secret.Reveal(), c.contextID)
	if a.DenyList.hasAPIKey(c.secret.Reveal()) {
		return nil, refuseKey(errKeyDenied)
	}
	o, f := a.join(r, key, c)
	if f != nil {
		select {
		case <-f.done:
			o = f.outcome
		case <-r.Context().Done():
			a.abandon(key, f)
			return nil, fmt.Errorf("waiting for the exchange of an API key: %w", context.Cause(r.Context()))
		}
		if o.err == errLimited {
			a.counters.limited.Add(1)
		}
		if a.DenyList.hasAPIKey(c.secret.Reveal()) { // since it began
			return nil, refuseKey(errKeyDenied)
		}
		if o.isRetired() { // likewise
			return nil, errors.New("exchanging an API key: the token's key has been withdrawn meanwhile")
		}
	}
	if o.err != nil {
		return nil, o.err
	}
	return a.admit(o.profile)
}

// join is what is known of a key, or else the flight that finds out.
func (a *Authenticator) join(r *http.Request, key cacheKey, c credential) (outcome, *flight) {
	address := addressOf(a.clientAddr(r)) // not ours: it may panic, and then nothing has begun
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, outcomes := range []*cache{&a.keys, &a.refused} {
		if known, ok := outcomes.get(key, a.now()); ok {
			a.counters.keyHits.Add(1)
			return known, nil
		}
	}
	if f, ok := a.flights[key]; ok {
		f.waiting++
		return outcome{}, f
	}
	if a.flights == nil {
		a.flights = make(map[cacheKey]*flight)
		a.unknowns.most, a.unknowns.share = maxExchanges, maxShare
		a.renewals.most, a.renewals.share = maxRenewals, maxRenewals
	}
	f := &flight{done: make(chan struct{}), waiting: 1}
	a.flights[key] = f
	ctx := context.WithoutCancel(r.Context())
	limiter, crowded := &a.unknowns, error(errLimited)
	if _, known := a.known.get(key, a.now()); known {
		limiter, crowded = &a.renewals, errBusy
	}
	f.ticket = limiter.join(address, func() { a.fly(ctx, key, f, c) }, a.late(key, f, crowded))
	if f.ticket == nil {
		delete(a.flights, key)
		f.outcome.err = crowded
		close(f.done)
	}
	return outcome{}, f
}

// late is for an exchange that has waited too long: crowded, or if not one has
// been answered meanwhile, it is not for others that it has waited.
func (a *Authenticator) late(key cacheKey, f *flight, crowded error) func() {
	joined, answered := time.Now(), a.answered.Load()
	return func() {
		o := outcome{err: crowded}
		if time.Since(joined) >= maxWait && a.answered.Load() == answered {
			o.err = errNoAnswer
		}
		a.land(key, f, o)
	}
}

func (a *Authenticator) clientAddr(r *http.Request) netip.Addr {
	if a.ClientAddr != nil {
		return a.ClientAddr(r)
	}
	addrPort, _ := netip.ParseAddrPort(r.RemoteAddr) // whoever has none shares one
	return addrPort.Addr()
}

func (a *Authenticator) abandon(key cacheKey, f *flight) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f.waiting--
	if f.waiting == 0 && f.ticket != nil && f.ticket.leave() {
		delete(a.flights, key)
	}
}

// land tells all who wait what came of f, and makes room for another exchange
// of its key.
func (a *Authenticator) land(key cacheKey, f *flight, o outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f.outcome = o
	delete(a.flights, key)
	close(f.done)
}

// fly makes an exchange, and remembers its outcome before it lands.
func (a *Authenticator) fly(ctx context.Context, key cacheKey, f *flight, c credential) {
	o := outcome{err: errors.New("exchanging an API key: Exchange has not returned")}
	defer func() { a.land(key, f, o) }() // even if it has ended the goroutine
	asked := a.now()
	o.profile, o.err = a.exchange(ctx, c)
	if o.err == nil {
		expires := asked.Add(cmp.Or(a.APIKeyTTL, defaultAPIKeyTTL))
		if o.profile.Expires.Before(expires) {
			expires = o.profile.Expires
		}
		a.keys.put(key, o, expires)
		a.known.put(key, outcome{}, asked.Add(knownTTL))
		return
	}
	if _, isRefusal := errors.AsType[*Error](o.err); isRefusal {
		a.refused.put(key, o, asked.Add(refusalTTL))
		a.known.delete(key)
	}
}

func (a *Authenticator) exchange(ctx context.Context, c credential) (p *Profile, err error) {
	if a.DenyList.hasAPIKey(c.secret.Reveal()) { // since it began to wait
		return nil, errKeyDenied
	}
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	a.counters.exchanges.Add(1)
	token, err := a.callExchange(ctx, c)
	isRefused := errors.Is(err, ErrKeyRefused)
	if err == nil || isRefused {
		a.answered.Add(1)
	}
	if isRefused {
		a.counters.exchangesRefused.Add(1)
		return nil, refuseKey(err)
	}
	if err == nil {
		p, err = a.Verifier.Verify(ctx, token)
	}
	if err == nil && c.contextID != "" && !platform.SameContext(p.Context, c.contextID) {
		err = errors.New("the token is for another context than the one asked for")
	}
	if err != nil { // the key may be good: what came for it says nothing against it
		a.counters.exchangesFailed.Add(1)
		return nil, fmt.Errorf("exchanging an API key: %w", err)
	}
	return p, nil
}

// callExchange makes a panic in Exchange, which nobody else could recover from,
// an error. What it panics with may quote the key.
func (a *Authenticator) callExchange(ctx context.Context, c credential) (token string, err error) {
	defer func() {
		switch panicked := recover().(type) {
		case nil:
		case runtime.Error:
			err = fmt.Errorf("panic in Exchange: %w", panicked)
		default:
			err = fmt.Errorf("panic in Exchange: %T", panicked)
		}
	}()
	return a.Exchange(ctx, c.secret.Reveal(), c.contextID)
}
