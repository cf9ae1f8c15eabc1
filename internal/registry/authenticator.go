package registry

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Order is in which order a request's places are looked into. The first that
// holds a credential decides: one that is refused never falls through to the
// next.
type Order int

const (
	// OrderExplicit puts what a client says before what a browser adds: the
	// Authorization header, X-API-KEY, the cookie, the query.
	OrderExplicit Order = iota
	// OrderPlatform is that of the platform's own services, cookie first.
	OrderPlatform
)

func (o Order) sources() [4]*source {
	if o == OrderPlatform {
		return [4]*source{fromCookie, fromAuthorization, fromAPIKeyHeader, fromQuery}
	}
	return [4]*source{fromAuthorization, fromAPIKeyHeader, fromCookie, fromQuery}
}

// CookieUse is for which requests the cookie counts.
type CookieUse int

const (
	// CookieSafe is for GET and HEAD: a browser adds the cookie to what another
	// site has it ask for, which must not change anything.
	CookieSafe CookieUse = iota
	// CookieAll is for every request.
	CookieAll
	// CookieOff is for none.
	CookieOff
)

// errNoCredential is how every client begins: it learns from the challenge what
// to send.
var errNoCredential = errors.New("authentication required")

// An Authenticator finds out who makes a request. It takes a token from the
// Authorization header, as a bearer token or as the password of the user
// bearer, or from the cookie dtz-auth; and an API key as the password of the
// user apikey, from X-API-KEY, with X-DTZ-CONTEXT beside it, or from the
// query's apiKey, with contextId. An empty one is as none; two of one kind are
// refused with 400.
//
// It remembers tokens by the hash of what they came in, so that a seen one
// costs a map look-up, and API keys by their own hash, so that another spelling
// of the header makes no other exchange. What a key has signed is forgotten
// when the key is withdrawn. It is safe for concurrent use.
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
	Order     Order
	Cookie    CookieUse
	// QueryAPIKey says whether the query's apiKey counts.
	QueryAPIKey bool
	DenyList    *DenyList // nil denies nobody
	// ClientAddr is against whom the exchanges of unknown API keys are counted.
	// Nil means RemoteAddr.
	ClientAddr func(*http.Request) netip.Addr

	// Caches of their own, so that neither a flood of tokens nor one of bad
	// keys evicts good keys. Known is which keys have been accepted.
	tokens, keys, refused, known cache

	mu       sync.Mutex
	flights  map[cacheKey]*flight // nil until the first, and the limiters without limits
	unknowns limiter              // of keys that are not known
	renewals limiter              // of those that are
	answered atomic.Uint64        // exchanges, whatever the answer

	counters counters
}

// Authenticate returns the profile of the request's credential. An [*Error]
// says how to refuse it; any other error, that it could not be checked.
func (a *Authenticator) Authenticate(r *http.Request) (*Profile, error) {
	p, _, err := a.identify(r)
	return p, err
}

// identify is Authenticate, and names the source that has decided, if there is
// one: "Authorization header", "X-API-KEY header", "dtz-auth cookie" or "apiKey
// in the query".
func (a *Authenticator) identify(r *http.Request) (p *Profile, source string, err error) {
	ignored := "" // why something that is there does not count
	for _, s := range a.Order.sources() {
		if why := a.ignores(s, r.Method); why != "" {
			if value, _ := s.find(r); value != "" {
				ignored = why
			}
			continue
		}
		value, err := s.value(r)
		if err != nil {
			return nil, s.name, err
		}
		if value != "" {
			p, err := a.authenticate(r, s, value)
			return p, s.name, err
		}
	}
	if ignored != "" {
		return nil, "", unauthorized(errNoCredential.Error()+"; "+ignored, errNoCredential)
	}
	return nil, "", unauthorized(errNoCredential.Error()+loginHint, errNoCredential)
}

// ignores says why s does not count in a request of this method, or "" if it
// does.
func (a *Authenticator) ignores(s *source, method string) string {
	switch {
	case s == fromQuery && !a.QueryAPIKey:
		return "an API key in the query is not accepted here"
	case s != fromCookie || a.Cookie == CookieAll:
		return ""
	case a.Cookie != CookieSafe:
		return "the dtz-auth cookie is not accepted here"
	case method != http.MethodGet && method != http.MethodHead:
		return "the dtz-auth cookie counts for GET and HEAD only"
	}
	return ""
}

func (a *Authenticator) authenticate(r *http.Request, s *source, value string) (*Profile, error) {
	var key cacheKey
	if s.context == nil { // else it holds API keys only, which have caches of their own
		key = newCacheKey(s.name, value, "")
		if known, ok := a.tokens.get(key, a.now()); ok {
			a.counters.tokenHits.Add(1)
			return a.admit(known.profile)
		}
	}
	c, err := s.parse(value)
	if err != nil {
		return nil, unauthorized(err.Error(), err)
	}
	if c.kind == kindAPIKey {
		if c.contextID, err = s.contextID(r); err != nil {
			return nil, err
		}
		return a.exchanged(r, c)
	}
	a.counters.tokenMisses.Add(1)
	p, err := a.Verifier.Verify(r.Context(), c.secret.Reveal())
	if _, isRefusal := errors.AsType[*TokenError](err); isRefusal {
		return nil, refuseToken(err)
	}
	if err != nil {
		return nil, err
	}
	a.tokens.put(key, outcome{profile: p}, p.Expires)
	return a.admit(p)
}

// admit asks the deny-list, on every request, so that whoever gets on it is out
// at once. It is a 403: a new login does not help.
func (a *Authenticator) admit(p *Profile) (*Profile, error) {
	if a.DenyList.hasIdentity(p.identity) {
		return nil, denied(p.Subject + " is on this registry's deny-list; a new login does not help")
	}
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
