package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

const (
	defaultAPIKeyTTL = 5 * time.Minute
	// refusalTTL is how long a refused API key is refused unasked.
	refusalTTL = 10 * time.Second
	// exchangeTimeout is for one exchange, whoever waits for it.
	exchangeTimeout = 10 * time.Second
)

// ErrKeyRefused is what Authenticator.Exchange returns, or wraps, for an API
// key that the identity service refuses.
var ErrKeyRefused = errors.New("API key refused")

// errNoCredential is how every client begins: it learns from the challenge what
// to send.
var errNoCredential = errors.New("authentication required")

// An Authenticator finds out who makes a request. It remembers tokens by the
// hash of the header that they came in, so that a seen one costs a map look-up,
// and API keys by their own hash, so that another spelling of the header makes
// no other exchange. It is safe for concurrent use.
type Authenticator struct {
	Verifier *Verifier
	// Exchange trades an API key for a token in a context; an empty contextID
	// is the key's own. An error other than [ErrKeyRefused] says that the key
	// could not be checked. Errors are logged and must not quote the key. Nil
	// means that API keys are refused.
	Exchange func(ctx context.Context, apiKey, contextID string) (token string, err error)
	// APIKeyTTL is how long at most an exchanged key is good without asking
	// again, however often it is used. 0 means 5 minutes.
	APIKeyTTL time.Duration

	// Three caches, so that neither a flood of tokens nor one of bad keys
	// evicts good keys.
	tokens, keys, refused cache

	mu      sync.Mutex
	flights map[cacheKey]*flight
}

// Authenticate returns the profile of the request's credential. An [*Error]
// says how to refuse it; any other error, that it could not be checked.
func (a *Authenticator) Authenticate(r *http.Request) (*Profile, error) {
	for _, s := range sources {
		values := s.find(r)
		switch {
		case len(values) == 0, len(values) == 1 && values[0] == "":
			continue
		case len(values) == 1:
			return a.authenticate(r.Context(), s, values[0])
		}
		return nil, &Error{Status: http.StatusBadRequest, Code: "UNSUPPORTED", Message: "more than one " + s.name}
	}
	return nil, unauthorized(errNoCredential.Error()+loginHint, errNoCredential)
}

func (a *Authenticator) authenticate(ctx context.Context, s source, value string) (*Profile, error) {
	key := newCacheKey(s.name, value, "")
	if known, ok := a.tokens.get(key, a.now()); ok {
		return known.profile, nil
	}
	c, err := s.parse(value)
	if err != nil {
		return nil, unauthorized(err.Error(), err)
	}
	if c.kind == kindAPIKey {
		return a.exchanged(ctx, c)
	}
	p, err := a.Verifier.Verify(ctx, c.secret.Reveal())
	if _, isRefusal := errors.AsType[*TokenError](err); isRefusal {
		return nil, refuseToken(err)
	}
	if err != nil {
		return nil, err
	}
	a.tokens.put(key, outcome{profile: p}, p.Expires)
	return p, nil
}

func (a *Authenticator) now() time.Time { return a.Verifier.config.Now() }

// refuseToken tells the client no more than whether a new login helps.
func refuseToken(err error) *Error {
	if e, ok := errors.AsType[*TokenError](err); ok && e.Rule == RuleExpired {
		return unauthorized("token expired"+loginHint, err)
	}
	return unauthorized("token refused"+loginHint, err)
}

// A flight is an exchange that is under way.
type flight struct {
	done    chan struct{} // closed when outcome is there
	outcome outcome
}

// exchanged is the outcome for an API key: known, or of one exchange for all
// requests that wait for it. A request stops waiting when ctx ends; the
// exchange goes on for the others, and for the next.
func (a *Authenticator) exchanged(ctx context.Context, c credential) (*Profile, error) {
	if a.Exchange == nil {
		return nil, unauthorized("API keys are not accepted here", nil)
	}
	key := newCacheKey(string(c.kind), c.secret.Reveal(), c.contextID)
	a.mu.Lock()
	for _, outcomes := range []*cache{&a.keys, &a.refused} {
		if known, ok := outcomes.get(key, a.now()); ok {
			a.mu.Unlock()
			return known.profile, known.err
		}
	}
	f, ok := a.flights[key]
	if !ok {
		f = &flight{done: make(chan struct{})}
		if a.flights == nil {
			a.flights = make(map[cacheKey]*flight)
		}
		a.flights[key] = f
		go a.fly(context.WithoutCancel(ctx), f, key, c)
	}
	a.mu.Unlock()
	select {
	case <-f.done:
		return f.outcome.profile, f.outcome.err
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the exchange of an API key: %w", context.Cause(ctx))
	}
}

// fly makes an exchange, and remembers its outcome before it makes room for
// another.
func (a *Authenticator) fly(ctx context.Context, f *flight, key cacheKey, c credential) {
	asked := a.now()
	p, err := a.exchange(ctx, c)
	f.outcome = outcome{p, err}
	if err == nil {
		expires := asked.Add(cmp.Or(a.APIKeyTTL, defaultAPIKeyTTL))
		if p.Expires.Before(expires) {
			expires = p.Expires
		}
		a.keys.put(key, f.outcome, expires)
	} else if _, isRefusal := errors.AsType[*Error](err); isRefusal {
		a.refused.put(key, f.outcome, asked.Add(refusalTTL))
	}
	a.mu.Lock()
	delete(a.flights, key)
	a.mu.Unlock()
	close(f.done)
}

func (a *Authenticator) exchange(ctx context.Context, c credential) (*Profile, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	token, err := a.Exchange(ctx, c.secret.Reveal(), c.contextID)
	if errors.Is(err, ErrKeyRefused) {
		return nil, unauthorized("API key refused; check it, or replace it by a new one", err)
	}
	if err != nil {
		return nil, fmt.Errorf("exchanging an API key: %w", err)
	}
	p, err := a.Verifier.Verify(ctx, token)
	if err != nil { // the key was good; what came for it says nothing against it
		return nil, fmt.Errorf("exchanging an API key: %w", err)
	}
	return p, nil
}
