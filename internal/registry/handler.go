package registry

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
)

// A Handler lets through to Next the requests whose caller Authenticator knows
// and Policy allows what they do, and refuses all others with an OCI error
// body. Only the distribution API is let through: paths under /v2/.
//
// Next finds the caller with [ProfileFrom] and, for a proxied registry, in the
// headers X-Dtz-Identity and X-Dtz-Context. The credential is removed, and so
// is whatever the client sent under such a name.
type Handler struct {
	Authenticator *Authenticator
	Policy        Policy
	Next          http.Handler
	// Observe is called once for each request, before Next or the refusal. The
	// request holds no credential any more. Nil means nothing.
	Observe func(*http.Request, Decision)
}

// A Decision is what became of a request, for logs and metrics.
type Decision struct {
	Profile    *Profile // nil if the caller is not known
	Source     string   // where the credential was: "Authorization header", …; "" if there was none
	Repository string   // "" if the request is about none
	Action     Action   // the first that is needed; "" for the base of the API
	Err        *Error   // nil: let through
}

type profileKey struct{}

// ProfileFrom returns who makes the request that ctx belongs to. It is false for a
// request that has not come through a [Handler].
func ProfileFrom(ctx context.Context) (*Profile, bool) {
	p, ok := ctx.Value(profileKey{}).(*Profile)
	return p, ok
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d := decide(h.Authenticator, h.Policy, r)
	ctx := r.Context()
	if d.Err == nil {
		ctx = context.WithValue(ctx, profileKey{}, d.Profile)
	}
	r = r.Clone(ctx)
	StripCredentials(r)
	removeImitations(r.Header)
	if h.Observe != nil {
		h.Observe(r, d)
	}
	if d.Err != nil {
		d.Err.ServeHTTP(w, r)
		return
	}
	setIdentity(r.Header, d.Profile)
	// A cache may keep what Authorization was needed for (RFC 9111 §3.5), not
	// so for the others: it has to know whose answer it is.
	w.Header().Add("Vary", "Authorization, Cookie, X-API-KEY, X-DTZ-CONTEXT")
	h.Next.ServeHTTP(w, r)
}

// decide finds out who makes a request and whether he may.
func decide(a *Authenticator, policy Policy, r *http.Request) Decision {
	need, inAPI := accessOf(r)
	d := Decision{Repository: need.repository, Action: need.action()}
	p, source, err := a.identify(r)
	d.Source = source
	if err == nil {
		d.Profile = p
		err = policy.Authorize(p, need.actions...)
	}
	if err == nil && !inAPI {
		err = denied("nothing but the registry's API is served here")
	}
	if err == nil && isMultipart(r) {
		err = malformed("a registry takes no multipart body")
	}
	if err != nil {
		d.Err = refusal(err)
		if d.Err.Status == http.StatusServiceUnavailable && errors.Is(r.Context().Err(), context.Canceled) {
			d.Err = gone(err)
		}
	}
	return d
}

// Headers that tell a registry behind us who asks. The second is also how
// clients ask for a context, which this one then is.
const (
	identityHeader = "X-Dtz-Identity"
	contextHeader  = "X-Dtz-Context"
)

const ourPrefix = "x-dtz-"

// setIdentity sets ids in their one spelling, so that whoever compares or files
// by them has one caller for one caller.
func setIdentity(h http.Header, p *Profile) {
	identity, contextID := p.Subject, p.Context
	if id, ok := platform.IdentityID(identity); ok {
		identity = id
	}
	if id, ok := platform.ContextID(contextID); ok {
		contextID = id
	}
	h.Set(identityHeader, identity)
	h.Set(contextHeader, contextID)
}

// removeImitations removes the headers that some server may take for ours: to
// CGI and its heirs X_Dtz_Identity is the same name (RFC 3875 §4.1.18).
func removeImitations(h http.Header) {
	for name, values := range h {
		if strings.HasPrefix(canonicalName(name), ourPrefix) {
			delete(h, name)
		}
		// What Connection names, a proxy takes away (RFC 9110 §7.6.1): ours too.
		if name == "Connection" && strings.Contains(canonicalName(strings.Join(values, " ")), ourPrefix) {
			delete(h, name)
		}
	}
}

// canonicalName is a header's name as the least particular server reads it: in
// lower case, and with a hyphen for all that is neither letter nor digit.
func canonicalName(name string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c >= 'A' && c <= 'Z':
			return c + 'a' - 'A'
		case isAlphanumeric(c):
			return c
		}
		return '-'
	}, name)
}
