package registry

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"slices"
	"strings"
	"testing"
	"time"
)

// A request is one row of the table.
type request struct {
	name     string
	method   string
	header   http.Header
	query    string
	explicit answer     // under OrderExplicit
	platform answer     // under OrderPlatform
	differs  difference // what the platform's reference does instead, under its own order
}

// An answer is a status, and who is let in or the error's message.
type answer struct {
	status int
	text   string
}

// A difference is one of the reference's ways that are not followed.
type difference string

const (
	same          difference = ""
	panics        difference = "panics"
	cutsPassword  difference = "cuts a password that holds a colon"
	servesStale   difference = "serves a stale key"
	takesFirst    difference = "takes the first of two, or the last of two cookies"
	cookieHides   difference = "lets any Cookie header hide other credentials"
	emptyHides    difference = "lets an empty value hide other credentials"
	schemeCase    difference = "knows Basic and Bearer in one case only, against RFC 9110 §11.1"
	anyAudience   difference = "does not check aud"
	secondContext            = "context-def67890"
)

// The identity service of the table: which keys it knows, whose they are, and
// which contexts they are good in.
var (
	apiKeys = map[string]string{
		goodKey:           "identity-abc12345",
		"apikey-basic000": "identity-basic000",
		"apikey-header00": "identity-header00",
		"apikey-query000": "identity-query000",
	}
	keyContexts = []string{"context-abc12345", secondContext}
)

// revokedKey was good until monday.
const revokedKey = "apikey-revoked0"

func tokenOf(subject, contextID string) string {
	return withClaims(goodClaims.with("sub", quote(subject)).with("scope", quote(contextID)).
		with("roles", `["https://dtz.rocks/containerregistry/admin/`+contextID+`"]`).
		with("iat", unix(monday.Add(-time.Hour))))
}

func TestRequests(t *testing.T) {
	table := requests()
	if len(table) < 200 {
		t.Errorf("%d requests, want 200 or more", len(table))
	}
	for _, order := range []Order{OrderExplicit, OrderPlatform} {
		for _, tt := range table {
			want := tt.explicit
			name := "explicit"
			if order == OrderPlatform {
				want = tt.platform
				name = "platform"
			}
			t.Run(name+"/"+tt.name, func(t *testing.T) { tt.check(t, order, want) })
		}
	}
}

// send makes the request of a client. A server has it with its URI.
func (tt request) send(t testing.TB) *http.Request {
	r := httptest.NewRequest(tt.method, "/v2/app/manifests/v1?"+tt.query, nil).WithContext(t.Context())
	r.Header = tt.header.Clone()
	return r
}

// check makes the request twice, the second time to be answered from memory.
func (tt request) check(t *testing.T, order Order, want answer) {
	var letIn string
	now := monday.Add(-time.Hour)
	h := newTableHandler(t, &now, func(_ http.ResponseWriter, r *http.Request) {
		p, _ := ProfileFrom(r.Context())
		letIn = p.Subject + " in " + p.Context
		checkStripped(t, r)
	})
	h.Authenticator.Order = order
	if tt.differs == servesStale {
		h.ServeHTTP(httptest.NewRecorder(), tt.send(t))
		if letIn == "" {
			t.Fatal("not let in when it was good")
		}
		letIn = ""
	}
	now = monday
	codes := map[int]string{400: "UNSUPPORTED", 401: "UNAUTHORIZED", 403: "DENIED", 503: "UNAVAILABLE"}
	for range 2 {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, tt.send(t))
		switch {
		case w.Code != want.status:
			t.Fatalf("status %d, want %d; body: %s", w.Code, want.status, w.Body)
		case want.status != 200 && letIn != "":
			t.Fatalf("refused, and let in as %s", letIn)
		case want.status != 200:
			checkRefusal(t, w, codes[want.status], want.text)
		case letIn != want.text:
			t.Fatalf("let in as %s, want %s", letIn, want.text)
		}
	}
}

// newTableHandler takes every kind of credential, for every method.
func newTableHandler(t testing.TB, now *time.Time, next http.HandlerFunc) *Handler {
	h := newHandler(t, next)
	c := testConfig()
	c.Now = func() time.Time { return *now }
	h.Authenticator = &Authenticator{
		Verifier:    newVerifier(t, c),
		Exchange:    exchangeAt(c.Now),
		Cookie:      CookieAll,
		QueryAPIKey: true,
	}
	h.Policy.Contexts = []string{"context-abc12345", secondContext}
	return h
}

// checkStripped finds whatever could be a credential in what Next gets.
func checkStripped(t *testing.T, r *http.Request) {
	t.Helper()
	dump, err := httputil.DumpRequest(r, false)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.ToLower(string(dump) + r.RequestURI + r.URL.String())
	for _, trace := range []string{"apikey-", "eyj", "authorization:", "dtz-auth", "x-api-key"} {
		if strings.Contains(all, trace) {
			t.Errorf("Next sees %q: %s", trace, all)
		}
	}
}

func base64Of(pair string) string { return base64.StdEncoding.EncodeToString([]byte(pair)) }

// exchangeAt is the table's identity service.
func exchangeAt(now func() time.Time) func(ctx context.Context, apiKey, contextID string) (string, error) {
	return func(ctx context.Context, apiKey, contextID string) (string, error) {
		subject, ok := apiKeys[apiKey]
		if apiKey == revokedKey && now().Before(monday) {
			subject, ok = "identity-revoked0", true
		}
		if !ok {
			return exchange(ctx, apiKey, contextID)
		}
		if contextID == "" {
			contextID = keyContexts[0]
		}
		if !slices.Contains(keyContexts, contextID) {
			return "", ErrKeyRefused
		}
		return tokenOf(subject, contextID), nil
	}
}
