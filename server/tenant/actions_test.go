package tenant_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	v2 "github.com/distribution/distribution/v3/registry/api/v2"
	"github.com/gorilla/mux"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
)

const (
	pusherRole = "https://example.com/pusher/{context_id}"
	pullerRole = "https://example.com/puller/{context_id}"
)

// newHandler is in front of next, and lets in who has the roles, by the token.
func newHandler(t *testing.T, next http.Handler, roles ...string) (h *registry.Handler, token string) {
	t.Helper()
	user := identity.User{Subject: "identity-alice001", Name: "alice", Password: "of alice", Contexts: []string{mine}, Roles: roles}
	service, err := identity.New(identity.Config{Users: []identity.User{user}})
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := registry.NewVerifier(registry.Config{
		Issuer: platform.Issuer, Audience: platform.Issuer,
		Keys: []registry.Key{{ID: "dtz1", Public: service.PublicKey()}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if token, err = service.Issue(user.Subject, ""); err != nil {
		t.Fatal(err)
	}
	return &registry.Handler{
		Authenticator: &registry.Authenticator{Verifier: verifier},
		Policy:        registry.Policy{Contexts: []string{mine}, Roles: registry.Roles{Pull: []string{pullerRole}, Push: []string{pusherRole}}},
		Next:          next,
	}, token
}

// distributionDoes is what distribution v3 does at each of its routes: the
// methods are those of its dispatchers, in registry/handlers.
var distributionDoes = map[string]map[string]registry.Action{
	v2.RouteNameBase:            {"GET": "", "HEAD": ""},
	v2.RouteNameCatalog:         {"GET": registry.ActionPull},
	v2.RouteNameTags:            {"GET": registry.ActionPull},
	v2.RouteNameManifest:        {"GET": registry.ActionPull, "HEAD": registry.ActionPull, "PUT": registry.ActionPush, "DELETE": registry.ActionDelete},
	v2.RouteNameBlob:            {"GET": registry.ActionPull, "HEAD": registry.ActionPull, "DELETE": registry.ActionDelete},
	v2.RouteNameBlobUpload:      uploads,
	v2.RouteNameBlobUploadChunk: uploads,
}

var uploads = map[string]registry.Action{
	"GET": registry.ActionPush, "HEAD": registry.ActionPush, "DELETE": registry.ActionPush,
	"POST": registry.ActionPush, "PUT": registry.ActionPush, "PATCH": registry.ActionPush,
}

// forPaths calls yield with each path of at most n of the words, with a slash at
// its end and without.
func forPaths(words []string, n int, yield func(string)) {
	var longer func(prefix string, n int)
	longer = func(prefix string, n int) {
		yield(prefix)
		yield(prefix + "/")
		if n == 0 {
			return
		}
		for _, word := range words {
			longer(prefix+"/"+word, n-1)
		}
	}
	longer("/v2", n)
}

// What a request needs is at least what distribution, by its own router, does
// with it, and in the repository that it does it in. Otherwise somebody who may
// only pull could delete.
func TestActionsAreAtLeastDistributions(t *testing.T) {
	const digest = "sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b"
	type served struct{ route, method string }
	var (
		d     registry.Decision
		alike = map[served]int{} // how often we have found the same action
	)
	router := v2.RouterWithPrefix("")
	for route, does := range distributionDoes {
		router.GetRoute(route).HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			action, ok := does[r.Method]
			switch repository := mux.Vars(r)["name"]; {
			case !ok || d.Action == registry.ActionAdmin:
			case d.Action != action || d.Repository != repository:
				t.Errorf("%s %s needs %q in %q, distribution's %s does %q in %q", r.Method, r.URL, d.Action, d.Repository, route, action, repository)
			default:
				alike[served{route, r.Method}]++
			}
		})
	}
	h, token := newHandler(t, router, platform.RegistryRole)
	h.Observe = func(_ *http.Request, decision registry.Decision) { d = decision }
	requests := 0
	ask := func(path string) {
		u, err := url.Parse("http://example.com" + path)
		if err != nil {
			t.Fatal(err)
		}
		for _, method := range []string{"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"} {
			requests++
			r := &http.Request{Method: method, URL: u, Header: http.Header{"Authorization": {"Bearer " + token}}, Body: http.NoBody}
			h.ServeHTTP(httptest.NewRecorder(), r)
		}
	}
	odd := []string{"", "..", "%2e%2e", "UPPER", "example.com:5000", "app%2Fmanifests%2Fv1", "7c1e.5c=", "v1%3A", "list", "uploads", digest}
	for _, name := range append(odd, "app", "team/app", "manifests") {
		for _, kind := range []string{"manifests", "blobs", "blobs/uploads", "blobs%2fuploads", "tags", "referrers", "_catalog"} {
			for _, last := range append(odd, "v1") {
				ask("/v2/" + name + "/" + kind + "/" + last)
			}
		}
	}
	// What the router has to tell apart.
	forPaths([]string{"manifests", "tags", "list", "_catalog"}, 3, ask)
	forPaths([]string{"manifests", "blobs", "uploads"}, 6, ask)
	forPaths([]string{"manifests", "blobs", "uploads"}, 5, func(path string) { ask(strings.TrimSuffix(path, "/") + "/" + digest) })
	for route, does := range distributionDoes {
		for method := range does {
			if alike[served{route, method}] == 0 {
				t.Errorf("of %d requests none was a %s to distribution's %s, known to be one", requests, method, route)
			}
		}
	}
}

// distribution looks for a mount in the query and in forms, of which it reads
// the body (StartBlobUpload).
func TestMountsNeedPullToo(t *testing.T) {
	const mount = "mount=sha256%3A6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b&from=other"
	tests := []struct {
		name, query, contentType, body string
		mounts                         bool // in distribution
		pushes                         bool // who may not pull may do it
	}{
		{"an upload", "", "", "", false, true},
		{"an upload in one request", "digest=sha256:00", "application/octet-stream", mount, false, true},
		{"a mount", mount, "", "", true, false},
		{"half a mount", "from=other", "", "", true, false},
		{"an escaped mount", "%66rom=other", "", "", true, false},
		{"a mount behind what is no query", "%zz&" + mount, "", "", true, false},
		{"a mount behind a semicolon", "a;b&" + mount, "", "", true, false},
		{"a mount in a form", "", "application/x-www-form-urlencoded", mount, true, false},
		{"a mount in a form of odd letters", "", " Application/X-WWW-Form-urlencoded ; charset=x", mount, true, false},
	}
	for _, roles := range [][]string{{pusherRole}, {pusherRole, pullerRole}} {
		mayPull := slices.Contains(roles, pullerRole)
		letIn, mounts := false, false
		h, token := newHandler(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			letIn = true
			mounts = r.FormValue("mount") != "" || r.FormValue("from") != ""
		}), roles...)
		for _, tt := range tests {
			letIn, mounts = false, false
			r := httptest.NewRequest("POST", "/v2/app/blobs/uploads/?"+tt.query, strings.NewReader(tt.body))
			r.Header.Set("Authorization", "Bearer "+token)
			if tt.contentType != "" {
				r.Header.Set("Content-Type", tt.contentType)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			switch {
			case mayPull && (!letIn || mounts != tt.mounts):
				t.Errorf("%s: %d, a mount: %v, want it let in, and %v", tt.name, w.Code, mounts, tt.mounts)
			case !mayPull && mounts:
				t.Errorf("%s: who may not pull mounts", tt.name)
			case !mayPull && letIn != tt.pushes:
				t.Errorf("%s: who may push is let in: %v, want %v", tt.name, letIn, tt.pushes)
			}
		}
	}
}
