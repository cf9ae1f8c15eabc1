package registry

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// verifyPath is where a [ForwardAuth] is asked.
const verifyPath = "/verify"

// ForwardAuth answers a reverse proxy that asks, before it passes a request on
// to a registry, whether it may: nginx (auth_request), Traefik and Caddy
// (forward-auth) at /verify, Envoy (ext_authz over HTTP, path_prefix /verify)
// at what follows it. It answers nowhere else. Serve it without a
// [http.ServeMux], which redirects /verify//v2/ and repeats the query, and with
// that perhaps an API key, in the Location.
//
// It answers 200 with the headers X-Dtz-Identity and X-Dtz-Context, which the
// proxy is to set on the request in place of any that the client sent, or
// refuses as [Handler] does.
//
// The proxy says what the client has asked for, in X-Forwarded-Method and
// X-Forwarded-Uri, or in X-Original-Method and X-Original-Uri, or as Envoy does
// by asking likewise. Clients can send such headers too, and a proxy replaces
// only those that it knows of: so everything that is said has to be the same,
// and a client that contradicts its proxy gets 400. It could only deceive a
// proxy that says nothing of its own; one in TrustedProxies has to.
type ForwardAuth struct {
	Authenticator *Authenticator
	Policy        Policy
	// TrustedProxies are whose word counts for method and URI, by the address
	// that they connect from. All others are refused with 403.
	TrustedProxies []netip.Prefix
	// Nginx answers nothing but 200, 401 and 403, of which nginx makes no 500:
	// other refusals become 403. Since nginx drops the body, the message of
	// each refusal is in X-Dtz-Reason, too.
	Nginx bool
	// Observe is called once for each request, with the client's method and URL
	// where they could be told, and without its credential. Decision has the
	// status from before Nginx has changed it. Nil means nothing.
	Observe func(*http.Request, Decision)
}

func (f *ForwardAuth) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var d Decision
	original, err := f.original(r)
	if err == nil {
		d = decide(f.Authenticator, f.Policy, original)
	} else {
		d.Err = refusal(err)
	}
	StripCredentials(original)
	if f.Observe != nil {
		f.Observe(original, d)
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if d.Err == nil {
		setIdentity(h, d.Profile)
		w.WriteHeader(http.StatusOK)
		return
	}
	answer := *d.Err
	if f.Nginx {
		h.Set("X-Dtz-Reason", answer.Message)
		if answer.Status != http.StatusUnauthorized {
			answer.Status = http.StatusForbidden
		}
	}
	answer.ServeHTTP(w, r)
}

// original is the client's request, without its body, or r itself with an error
// that says why it cannot be told.
func (f *ForwardAuth) original(r *http.Request) (*http.Request, error) {
	original := r.Clone(r.Context())
	original.Body, original.ContentLength = http.NoBody, 0
	said, err := takeLines(original.Header)
	if !f.trusts(r.RemoteAddr) {
		return original, &Error{
			Status: http.StatusForbidden, Code: "DENIED", Message: "only a trusted proxy may ask here",
			Err: errors.New("not a trusted proxy: " + r.RemoteAddr),
		}
	}
	if err != nil {
		return original, err
	}
	switch rest, found := strings.CutPrefix(r.URL.RequestURI(), verifyPath); {
	case found && strings.HasPrefix(rest, "/"):
		said = append(said, line{r.Method, rest})
		if original.Header["Content-Type"] == nil {
			// Envoy keeps back the headers that it is not told to pass on, so
			// there may be a form.
			original.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
	case !found || rest != "" && rest[0] != '?':
		// To Envoy OPTIONS * is /verify*: it has said something of its own, and
		// the client's headers say something else.
		return original, malformed("a proxy asks at /verify, or below it")
	}
	if len(said) == 0 {
		return original, malformed("the proxy does not say what has been asked for")
	}
	for _, l := range said[1:] {
		if l != said[0] {
			return original, malformed("it cannot be told what has been asked for: headers of the proxy and the client do not agree")
		}
	}
	u, err := said[0].url()
	if err != nil {
		return original, err
	}
	original.Method, original.URL, original.RequestURI = said[0].method, u, said[0].uri
	return original, nil
}

func (f *ForwardAuth) trusts(remoteAddr string) bool {
	peer, err := netip.ParseAddrPort(remoteAddr)
	if err != nil {
		return false
	}
	addr := peer.Addr().Unmap().WithZone("")
	for _, p := range f.TrustedProxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// A line is the request line of a client, but for the version.
type line struct{ method, uri string }

// lineHeaders are the names, as [canonicalName] has them, in which a proxy says
// it.
var lineHeaders = []line{
	{"x-forwarded-method", "x-forwarded-uri"},
	{"x-original-method", "x-original-uri"},
}

// takeLines removes these headers, however they are spelled, and returns what
// they say. Half a line is an error, and so is one said twice.
func takeLines(h http.Header) ([]line, error) {
	var lines []line
	var err error
	for _, names := range lineHeaders {
		methods, uris := take(h, names.method), take(h, names.uri)
		switch {
		case len(methods) == 0 && len(uris) == 0:
		case len(methods) == 1 && len(uris) == 1:
			lines = append(lines, line{methods[0], uris[0]})
		default:
			err = malformed("it cannot be told what has been asked for: want " + names.method + " and " + names.uri + " once each")
		}
	}
	return lines, err
}

func take(h http.Header, canonical string) (values []string) {
	for name := range h {
		if canonicalName(name) == canonical {
			values = append(values, h[name]...)
			delete(h, name)
		}
	}
	return values
}

// url is strict: a registry's clients send the origin form only (RFC 9112
// §3.2.1), and so do the proxies.
func (l line) url() (*url.URL, error) {
	if l.method == "" || !strings.HasPrefix(l.uri, "/") {
		return nil, malformed("no method, or a URI that does not begin with a slash")
	}
	u, err := url.ParseRequestURI(l.uri)
	if err != nil { // which quotes the URI, and that may hold a key
		return nil, malformed("the URI is malformed")
	}
	return u, nil
}
