package registry

import (
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
)

// A reference does with a request what the platform's own services do, its
// weaknesses included, and shares no code with an [Authenticator]. It says who
// is let in, or refused, or panics.
//
// It knows good tokens when it sees them; what it makes of a token itself is
// not the subject here.
type reference struct {
	tokens map[string]string // who is let in by them
	keys   map[string]string // whose they are, or were when they were asked for
}

const (
	refused  = "refused"
	panicked = "panics"
)

func newReference() *reference {
	p := &reference{
		tokens: map[string]string{goodToken(): owner, scopelessToken(): panicked},
		keys:   map[string]string{oddKey: "identity-abc12345", revokedKey: "identity-revoked0"},
	}
	maps.Copy(p.keys, apiKeys)
	for _, subject := range []string{"identity-token000", "identity-bearer00", "identity-cookie00"} {
		p.tokens[tokenOf(subject, keyContexts[0])] = subject + " in " + keyContexts[0]
	}
	return p
}

func (p *reference) judge(r *http.Request) (verdict string) {
	defer func() {
		if recover() != nil {
			verdict = panicked
		}
	}()
	if values := r.Header["Cookie"]; values != nil {
		return p.byCookie(visible(values[0]))
	}
	if values := r.Header["Authorization"]; values != nil {
		return p.byAuthorization(visible(values[0]))
	}
	if values := r.Header["X-Api-Key"]; values != nil {
		id := ""
		if asked := r.Header["X-Dtz-Context"]; asked != nil && asked[0] != "" {
			if id = contextOf(visible(asked[0])); id == "" {
				return refused
			}
		}
		return p.byKey(visible(values[0]), id)
	}
	query := decodeForm(r.URL.RawQuery)
	key, contexts := query["apiKey"], query["contextId"]
	if len(key) > 1 || len(contexts) > 1 {
		panic("duplicate field")
	}
	if key == nil {
		return refused
	}
	id := ""
	if contexts != nil {
		if id = contextOf(contexts[0]); id == "" {
			return refused
		}
	}
	return p.byKey(key[0], id)
}

func (p *reference) byCookie(header string) string {
	token := ""
	for pair := range strings.SplitSeq(header, ";") {
		name, value, found := strings.Cut(strings.TrimSpace(pair), "=")
		if !found || name == "" {
			panic("not a cookie")
		}
		if name == "dtz-auth" {
			token = value
		}
	}
	return p.byToken(token)
}

func (p *reference) byAuthorization(header string) string {
	if token, ok := strings.CutPrefix(header, "Bearer "); ok {
		return p.byToken(token)
	}
	encoded, ok := strings.CutPrefix(header, "Basic ")
	if !ok {
		return refused
	}
	decoded, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		panic(err)
	}
	parts := append(strings.Split(string(decoded), ":"), "")
	switch parts[0] {
	case "bearer":
		return p.byToken(parts[1])
	case "apikey":
		return p.byKey(parts[1], "")
	}
	return refused
}

func (p *reference) byToken(token string) string {
	if strings.Count(token, ".") == 1 {
		panic("no third part")
	}
	if who, ok := p.tokens[token]; ok {
		return who
	}
	return refused
}

// byKey knows what it has been told once for as long as it is asked.
func (p *reference) byKey(key, contextID string) string {
	subject, ok := p.keys[key]
	if contextID == "" {
		contextID = keyContexts[0]
	}
	if !ok || !slices.Contains(keyContexts, contextID) {
		return refused
	}
	return subject + " in " + contextID
}

// visible is a header's text, which has to be ASCII.
func visible(text string) string {
	if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' && c != '\t' || c > '~' }) {
		panic("not visible")
	}
	return text
}

func contextOf(text string) string {
	id, ok := platform.ContextID(text)
	if !ok || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return ""
	}
	return id
}

func decodeForm(query string) map[string][]string {
	form := map[string][]string{}
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		decode := func(text string) string {
			decoded, err := url.QueryUnescape(text)
			if err != nil {
				return text
			}
			return decoded
		}
		form[decode(name)] = append(form[decode(name)], decode(value))
	}
	return form
}

// Under the platform's own order, a request is answered as the platform answers
// it, but for the differences that the table names.
func TestRequestsAgainstTheReference(t *testing.T) {
	seen := map[difference]int{}
	p := newReference()
	table := requests()
	for _, tt := range table {
		theirs := p.judge(tt.send(t))
		ours := refused
		if tt.platform.status == http.StatusOK {
			ours = tt.platform.text
		}
		if (theirs != ours) != (tt.differs != same) {
			t.Errorf("%s: the platform %s, %s here, and the table says that the platform %s", tt.name, theirs, ours, tt.differs)
		}
		if (theirs == panicked) != (tt.differs == panics) {
			t.Errorf("%s: the platform %s, and the table says that it %s", tt.name, theirs, tt.differs)
		}
		seen[tt.differs]++
	}
	for _, d := range []difference{panics, cutsPassword, servesStale, takesFirst, cookieHides, emptyHides, schemeCase, anyAudience} {
		if seen[d] == 0 {
			t.Errorf("no request shows that the platform %s", d)
		}
	}
	t.Logf("%d requests, of which the platform answers %d in the same way", len(table), seen[same])
}
