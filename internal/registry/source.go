package registry

import (
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
)

// A place is where a request may hold a value.
type place struct {
	name string // as messages call it
	// find returns the value, the last if there are several, and how many there are.
	find func(*http.Request) (value string, count int)
}

// value is the one value there, or "": an empty one is as none. An [*Error]
// says that there are several, of which the next server may see another one.
func (p *place) value(r *http.Request) (string, error) {
	value, count := p.find(r)
	if count > 1 {
		return "", malformed("more than one " + p.name)
	}
	return value, nil
}

// A source is a place for credentials.
type source struct {
	place
	parse   func(value string) (credential, error)
	context *place // of the context that is asked for beside an API key; may be nil
}

var (
	fromAuthorization = &source{place{"Authorization header", header("Authorization")}, parseAuthorization, nil}
	fromAPIKeyHeader  = &source{place{"X-API-KEY header", header("X-Api-Key")}, parseAPIKey, &place{"X-DTZ-CONTEXT header", header("X-Dtz-Context")}}
	fromCookie        = &source{place{"dtz-auth cookie", findCookie}, parseToken, nil}
	fromQuery         = &source{place{"apiKey in the query", query(apiKeyParameter)}, parseAPIKey, &place{"contextId in the query", query(contextParameter)}}
)

const (
	cookieName       = "dtz-auth"
	apiKeyParameter  = "apiKey"
	contextParameter = "contextId"
)

// contextID is the canonical id of the context that the request asks for, or
// "" if it asks for none.
func (s *source) contextID(r *http.Request) (string, error) {
	if s.context == nil {
		return "", nil
	}
	value, err := s.context.value(r)
	if value == "" || err != nil {
		return "", err
	}
	id, ok := platform.ContextID(value)
	if !ok || !isIdentifier(value) {
		return "", malformed("the " + s.context.name + " is not a context's id")
	}
	return id, nil
}

// header finds the headers of a canonical name.
func header(name string) func(*http.Request) (string, int) {
	return func(r *http.Request) (value string, count int) {
		values := r.Header[name]
		if len(values) > 0 {
			value = values[len(values)-1]
		}
		return value, len(values)
	}
}

func findCookie(r *http.Request) (value string, count int) {
	for _, header := range r.Header["Cookie"] {
		for pair := range strings.SplitSeq(header, ";") {
			if name, text := cutCookie(pair); name == cookieName {
				value = text
				count++
			}
		}
	}
	return value, count
}

// cutCookie parts one pair of a Cookie header (RFC 6265 §4.2.1), whatever its
// neighbours look like. Quotes belong to the value, as in browsers.
func cutCookie(pair string) (name, value string) {
	name, value, _ = strings.Cut(pair, "=")
	return textproto.TrimString(name), textproto.TrimString(value)
}

func query(name string) func(*http.Request) (string, int) {
	return func(r *http.Request) (value string, count int) {
		for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
			if key, text := cutParameter(pair); key == name {
				value = text
				count++
			}
		}
		return value, count
	}
}

// cutParameter parts and decodes one pair of a query, as HTML forms make it
// (application/x-www-form-urlencoded in the URL Standard): only an ampersand
// parts it from the next. A name or value in which a percent sign encodes
// nothing stands for itself, all of it.
func cutParameter(pair string) (name, value string) {
	name, value, _ = strings.Cut(pair, "=")
	return unescape(name), unescape(value)
}

func unescape(text string) string {
	if unescaped, err := url.QueryUnescape(text); err == nil {
		return unescaped
	}
	return text
}

// StripCredentials removes from r all that an [Authenticator] may read, so that
// no log and no server behind it sees a credential: the headers Authorization,
// X-API-KEY and X-DTZ-CONTEXT, the cookie dtz-auth, and apiKey and contextId in
// the query: of the URL, of the Referer, and of the URI that a proxy in front
// says it has been asked for. Everything else stays as it is. It changes the
// header and the URL in place; those of a [http.Request.Clone] are its own.
func StripCredentials(r *http.Request) {
	for _, name := range []string{"Authorization", "X-Api-Key", "X-Dtz-Context"} {
		delete(r.Header, name)
	}
	stripCookie(r.Header)
	r.URL.RawQuery = stripQuery(r.URL.RawQuery)
	r.RequestURI = stripURI(r.RequestURI)
	for name, values := range r.Header {
		if !slices.Contains(uriHeaders, canonicalName(name)) {
			continue
		}
		for i, uri := range values {
			values[i] = stripURI(uri)
		}
	}
	r.Form = nil // holds the query's; ParseForm makes it again
}

// uriHeaders hold a URI, and so may hold its query. The names are as
// [canonicalName] has them.
var uriHeaders = []string{"referer", "x-forwarded-uri", "x-original-uri", "x-original-url", "x-rewrite-url"}

func stripCookie(h http.Header) {
	var kept []string
	for _, value := range h["Cookie"] {
		value = without(value, ";", func(pair string) bool {
			name, _ := cutCookie(pair)
			return name == cookieName
		})
		if value = textproto.TrimString(value); value != "" {
			kept = append(kept, value)
		}
	}
	delete(h, "Cookie")
	if kept != nil {
		h["Cookie"] = kept
	}
}

// stripQuery removes a pair also for what is behind a semicolon in it, where
// only others look.
func stripQuery(query string) string {
	return without(query, "&", func(pair string) bool {
		for part := range strings.SplitSeq(pair, ";") {
			if name, _ := cutParameter(part); name == apiKeyParameter || name == contextParameter {
				return true
			}
		}
		return false
	})
}

// stripURI strips the query of a URI, in any form (RFC 9112 §3.2).
func stripURI(uri string) string {
	path, query, _ := strings.Cut(uri, "?")
	stripped := stripQuery(query)
	switch {
	case stripped == query:
		return uri
	case stripped == "":
		return path
	}
	return path + "?" + stripped
}

// without is text without the pairs that are to be removed.
func without(text, separator string, remove func(pair string) bool) string {
	return strings.Join(slices.DeleteFunc(strings.Split(text, separator), remove), separator)
}
