package registry

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// Needs of the rows below, beside single actions.
const (
	anyRole = "any role"
	mounts  = "push and pull"
	nobody  = "nobody"
)

// actionRow is a request, and who may make it.
type actionRow struct {
	methods    string // separated by spaces
	target     string
	header     string // "Name: value"; "" is none
	repository string
	need       string
}

func actionRows() []actionRow {
	const (
		digest = "sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b"
		form   = "Content-Type: application/x-www-form-urlencoded"
	)
	return []actionRow{
		{"GET HEAD", "/v2/", "", "", anyRole},
		{"GET HEAD", "/v2", "", "", anyRole},
		{"GET", "/v2/?x=1", "", "", anyRole},
		{"PUT POST PATCH DELETE OPTIONS TRACE CONNECT", "/v2/", "", "", "admin"},

		{"GET HEAD", "/v2/_catalog", "", "", "pull"},
		{"GET", "/v2/_catalog?n=5&last=x", "", "", "pull"},
		{"POST DELETE", "/v2/_catalog", "", "", "admin"},
		{"GET HEAD", "/v2/app/tags/list", "", "app", "pull"},
		{"DELETE PUT", "/v2/app/tags/list", "", "app", "admin"},
		{"GET HEAD", "/v2/app/referrers/" + digest, "", "app", "pull"},
		{"PUT", "/v2/app/referrers/" + digest, "", "app", "admin"},

		{"GET HEAD", "/v2/app/manifests/v1", "", "app", "pull"},
		{"GET HEAD", "/v2/team/app/manifests/" + digest, "", "team/app", "pull"},
		{"GET", "/v2/app/manifests/sha256%3A" + digest[7:], "", "app", "pull"},
		{"GET", "/v2/app/manifests/sha256%3a" + digest[7:], "", "app", "pull"},
		{"PUT", "/v2/app/manifests/v1", "", "app", "push"},
		{"PUT", "/v2/app/manifests/v1", form, "app", "push"},
		{"DELETE", "/v2/app/manifests/v1", "", "app", "delete"},
		{"DELETE", "/v2/app/manifests/" + digest, "", "app", "delete"},
		{"POST PATCH OPTIONS", "/v2/app/manifests/v1", "", "app", "admin"},

		{"GET HEAD", "/v2/app/blobs/" + digest, "", "app", "pull"},
		{"DELETE", "/v2/app/blobs/" + digest, "", "app", "delete"},
		{"PUT POST PATCH", "/v2/app/blobs/" + digest, "", "app", "admin"},

		{"POST", "/v2/app/blobs/uploads/", "", "app", "push"},
		{"POST", "/v2/app/blobs/uploads/?digest=" + digest, "", "app", "push"},
		{"POST", "/v2/app/blobs/uploads/", "Content-Type: application/octet-stream", "app", "push"},
		{"POST", "/v2/app/blobs/uploads/", "Content-Type: application/json", "app", "push"},
		{"GET HEAD PUT PATCH DELETE", "/v2/app/blobs/uploads/", "", "app", "push"},
		{"GET HEAD PUT PATCH DELETE POST", "/v2/app/blobs/uploads/7c1e5c0e-a-b_c.d=", "", "app", "push"},
		{"PUT", "/v2/app/blobs/uploads/7c1e?_state=x&digest=" + digest, "", "app", "push"},
		{"OPTIONS LOCK", "/v2/app/blobs/uploads/7c1e", "", "app", "admin"},

		{"POST", "/v2/app/blobs/uploads/?mount=" + digest + "&from=other", "", "app", mounts},
		{"POST", "/v2/app/blobs/uploads/?mount=" + digest, "", "app", mounts},
		{"POST", "/v2/app/blobs/uploads/?from=other", "", "app", mounts},
		{"POST", "/v2/app/blobs/uploads/?%6dount=" + digest + "&%66rom=other", "", "app", mounts},
		{"POST", "/v2/app/blobs/uploads/?x=;mount=" + digest, "", "app", mounts},
		{"POST", "/v2/app/blobs/uploads/?%zz", "", "app", mounts},
		{"POST", "/v2/app/blobs/uploads/7c1e?mount=" + digest + "&from=other", "", "app", mounts},
		{"POST", "/v2/app/blobs/uploads/", form, "app", mounts},
		{"POST", "/v2/app/blobs/uploads/", strings.ToUpper(form), "app", mounts},
		{"POST", "/v2/app/blobs/uploads/", form + `; charset="`, "app", mounts},

		// Repositories that are called like a part of the API.
		{"DELETE", "/v2/foo/manifests/manifests/x", "", "foo/manifests", "delete"},
		{"DELETE", "/v2/a/blobs/uploads/b", "", "a", "push"},
		{"DELETE", "/v2/a/blobs/uploads/b/manifests/x", "", "a/blobs/uploads/b", "delete"},
		{"DELETE", "/v2/a/blobs/uploads/blobs/" + digest, "", "a/blobs/uploads", "delete"},
		{"DELETE", "/v2/a/blobs/uploads/manifests/x", "", "a/blobs/uploads", "delete"},
		{"GET", "/v2/a/manifests/blobs/uploads/", "", "a/manifests", "push"},
		{"GET", "/v2/manifests/manifests/manifests", "", "manifests", "pull"},
		{"GET", "/v2/a/manifests/x/tags/list", "", "a/manifests/x", "pull"},
		{"PUT", "/v2/a/tags/list/manifests/x", "", "a/tags/list", "push"},
		{"PUT", "/v2/tags/manifests/list", "", "tags", "push"},
		{"GET", "/v2/a/blobs/manifests/uploads", "", "a/blobs", "pull"},

		// What is no request of the API, under its base.
		{"GET DELETE", "/v2/tags/list", "", "", "admin"},
		{"GET DELETE", "/v2/manifests/x", "", "", "admin"},
		{"GET POST", "/v2/blobs/uploads/", "", "", "admin"},
		{"GET POST", "/v2/app/blobs/uploads", "", "", "admin"},
		{"GET", "/v2/app/blobs/x", "", "", "admin"},
		{"GET", "/v2/app/referrers/x", "", "", "admin"},
		{"GET DELETE", "/v2/app/manifests/", "", "", "admin"},
		{"GET DELETE", "/v2/app/manifests/v1/", "", "", "admin"},
		{"GET", "/v2/app/tags/list/", "", "", "admin"},
		{"GET", "/v2/app/tags", "", "", "admin"},
		{"GET", "/v2/app", "", "", "admin"},
		{"GET", "/v2/_catalog/", "", "", "admin"},
		{"GET", "/v2/_catalog/tags/list", "", "", "admin"},
		{"GET", "/v2/APP/manifests/v1", "", "", "admin"},
		{"GET", "/v2/app-/manifests/v1", "", "", "admin"},
		{"GET", "/v2/.app/manifests/v1", "", "", "admin"},
		{"GET", "/v2/app/manifests/.v1", "", "", "admin"},
		{"GET", "/v2/host:5000/app/manifests/v1", "", "", "admin"},

		// Methods that are not what they seem.
		{"get Get delete PROPFIND M-SEARCH X", "/v2/app/manifests/v1", "", "app", "admin"},
		{"GET POST", "/v2/app/manifests/v1", "X-HTTP-Method-Override: DELETE", "app", "admin"},
		{"POST", "/v2/app/blobs/uploads/", "X_Http_Method: DELETE", "app", "admin"},
		{"POST", "/v2/app/blobs/uploads/", "X-Method-Override: PUT", "app", "admin"},
		{"POST", "/v2/app/blobs/uploads/?_method=DELETE", "", "app", "admin"},

		// What is outside, or would be for some servers.
		{"GET HEAD PUT POST PATCH DELETE", "/", "", "", nobody},
		{"GET", "/metrics", "", "", nobody},
		{"GET", "/debug/pprof/", "", "", nobody},
		{"GET", "/V2/", "", "", nobody},
		{"GET", "/v2x/", "", "", nobody},
		{"GET", "/v1/v2/", "", "", nobody},
		{"GET", "/v22/app/manifests/v1", "", "", nobody},
		{"GET", "//v2/app/manifests/v1", "", "", nobody},
		{"GET", "/v2//app/manifests/v1", "", "", nobody},
		{"GET", "/v2/app//manifests/v1", "", "", nobody},
		{"GET", "/v2/app/blobs/uploads//", "", "", nobody},
		{"GET", "/v2/./app/manifests/v1", "", "", nobody},
		{"GET", "/v2/../metrics", "", "", nobody},
		{"GET", "/v2/app/../../metrics", "", "", nobody},
		{"GET", "/v2/app/manifests/..", "", "", nobody},
		{"GET", "/v2/%2e%2e/metrics", "", "", nobody},
		{"GET", "/v2/app/%2E%2E/%2E%2E/metrics", "", "", nobody},
		{"GET", "/v2/%252e%252e/metrics", "", "", nobody},
		{"GET", "/v2/..;/metrics", "", "", nobody},
		{"GET", "/v2/app;x/manifests/v1", "", "", nobody},
		{"GET", `/v2/..\metrics`, "", "", nobody},
		{"GET", "/v2/..%5cmetrics", "", "", nobody},
		{"DELETE", "/v2/app%2Fmanifests%2Fx/blobs/uploads/y", "", "", nobody},
		{"DELETE", "/v2/app/blobs/uploads/..%2f..%2fmanifests%2fx", "", "", nobody},
		{"DELETE", "/v2/app/blobs%2fuploads/x", "", "", nobody},
		{"GET", "/%76%32/app/manifests/v1", "", "", nobody},
		{"GET", "/v2/%61pp/manifests/v1", "", "", nobody},
		{"GET", "/v2/app/manifests/v1%00", "", "", nobody},
		{"GET", "/v2/app/manifests/v1%0a", "", "", nobody},
		{"GET", "/v2/app/manifests/v1%20", "", "", nobody},
		{"GET", "/v2/app/manifests/v1%3f", "", "", nobody},
		{"GET", "/v2/app/manifests/v1%23", "", "", nobody},
		{"GET", "/v2/app/manifests/%c3%a4", "", "", nobody},
		{"GET", "/v2/äpp/manifests/v1", "", "", nobody},
	}
}

// somebody holds some of the actions.
type somebody []Action

// may reports whether he fulfils the need of a row.
func (s somebody) may(need string) bool {
	admin := slices.Contains(s, ActionAdmin)
	switch need {
	case nobody:
		return false
	case anyRole:
		return len(s) > 0
	case mounts:
		return admin || slices.Contains(s, ActionPush) && slices.Contains(s, ActionPull)
	}
	return admin || slices.Contains(s, Action(need))
}

// everybody is each of those who hold one action, several, or none.
var everybody = []somebody{
	{},
	{ActionPull},
	{ActionPush},
	{ActionDelete},
	{ActionAdmin},
	{ActionPull, ActionPush},
	{ActionPull, ActionDelete},
	{ActionPush, ActionDelete},
	{ActionPull, ActionPush, ActionDelete},
}

// token is his, with ids spelled with their kind in front or without.
func (s somebody) token(kind string) string {
	roles := map[Action]string{
		ActionPull:   "https://example.com/puller/",
		ActionPush:   "https://example.com/pusher/",
		ActionDelete: "https://example.com/deleter/",
		ActionAdmin:  "https://dtz.rocks/containerregistry/admin/",
	}
	quoted := []string{`"https://example.com/puller/zzz99999"`}
	for _, action := range s {
		quoted = append(quoted, fmt.Sprintf("%q", roles[action]+kind+"abc12345"))
	}
	return withClaims(goodClaims.with("scope", fmt.Sprintf("%q", kind+"abc12345")).with("roles", "["+strings.Join(quoted, ",")+"]"))
}

func (row actionRow) request(t *testing.T, method string) *http.Request {
	t.Helper()
	u, err := url.Parse("http://example.com" + row.target)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Method, r.URL = method, u
	if name, value, found := strings.Cut(row.header, ": "); found {
		r.Header.Set(name, value)
	}
	return r
}

func TestWhoMayDoWhat(t *testing.T) {
	h := newHandler(t, func(http.ResponseWriter, *http.Request) {})
	h.Policy.Roles = rolesByAction
	var d Decision
	h.Observe = func(_ *http.Request, decision Decision) { d = decision }
	for _, kind := range []string{"context-", ""} {
		for _, who := range everybody {
			token := who.token(kind)
			for _, row := range actionRows() {
				for method := range strings.FieldsSeq(row.methods) {
					r := row.request(t, method)
					r.Header.Set("Authorization", "Bearer "+token)
					w := httptest.NewRecorder()
					h.ServeHTTP(w, r)
					want := http.StatusForbidden
					if who.may(row.need) {
						want = http.StatusOK
					}
					if w.Code != want {
						t.Errorf("%s %s %s by who may %v: %d %s, want %d", method, row.target, row.header, who, w.Code, w.Body, want)
					}
					if d.Repository != row.repository || d.Action != row.action() {
						t.Errorf("%s %s: %q in %q, want %q in %q", method, row.target, d.Action, d.Repository, row.action(), row.repository)
					}
				}
			}
		}
	}
}

// action is the one that Observe sees.
func (row actionRow) action() Action {
	switch row.need {
	case anyRole, nobody:
		return ""
	case mounts:
		return ActionPush
	}
	return Action(row.need)
}

// Nobody learns what there is before he has said who he is.
func TestStrangersAreChallengedEverywhere(t *testing.T) {
	h := newHandler(t, nil)
	for _, row := range actionRows() {
		for method := range strings.FieldsSeq(row.methods) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, row.request(t, method))
			if w.Code != http.StatusUnauthorized || len(w.Header()["Www-Authenticate"]) != 1 {
				t.Errorf("%s %s = %d with challenges %q, want 401 with one", method, row.target, w.Code, w.Header()["Www-Authenticate"])
			}
		}
	}
}
