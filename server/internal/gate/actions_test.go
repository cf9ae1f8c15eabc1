package gate_test

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	v2 "github.com/distribution/distribution/v3/registry/api/v2"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/gorilla/mux"
	"github.com/opencontainers/go-digest"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
)

type actions = []registry.Action

var (
	pull    = actions{registry.ActionPull}
	push    = actions{registry.ActionPush}
	remove  = actions{registry.ActionDelete}
	mounts  = actions{registry.ActionPull, registry.ActionPush}
	nothing = actions{}
)

// effects is what distribution does at each of its routes. To other methods it
// answers 405, but for the base, which answers all alike.
var effects = map[string]map[string]actions{
	v2.RouteNameBase:            {},
	v2.RouteNameCatalog:         {"GET": pull},
	v2.RouteNameTags:            {"GET": pull},
	v2.RouteNameManifest:        {"GET": pull, "HEAD": pull, "PUT": push, "DELETE": remove},
	v2.RouteNameBlob:            {"GET": pull, "HEAD": pull, "DELETE": remove},
	v2.RouteNameBlobUpload:      {"GET": push, "HEAD": push, "POST": push, "PUT": push, "PATCH": push, "DELETE": push},
	v2.RouteNameBlobUploadChunk: {"GET": push, "HEAD": push, "POST": push, "PUT": push, "PATCH": push, "DELETE": push},
}

// everybody is who holds each set of actions.
var everybody = []actions{
	nothing, pull, push, remove, mounts,
	{registry.ActionPull, registry.ActionDelete},
	{registry.ActionPush, registry.ActionDelete},
	{registry.ActionPull, registry.ActionPush, registry.ActionDelete},
}

// A router is distribution's, with a note of what it would have done in place
// of its doing so.
type router struct {
	gate   *registry.Handler
	tokens []string // of everybody

	route      string // "" is none: 404, or a redirect
	repository string
	does       actions
	decision   registry.Decision
}

func newRouter(t testing.TB) *router {
	t.Helper()
	const role = "https://example.com/"
	var users []identity.User
	for i, held := range everybody {
		u := identity.User{Name: fmt.Sprint(i), Password: "unused", Subject: fmt.Sprintf("identity-user000%d", i), Contexts: []string{"context-abc12345"}}
		for _, action := range held {
			u.Roles = append(u.Roles, role+string(action)+"/{context_id}")
		}
		users = append(users, u)
	}
	service, err := identity.New(identity.Config{Users: users})
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
	r := new(router)
	for _, u := range users {
		token, err := service.Issue(u.Subject, "")
		if err != nil {
			t.Fatal(err)
		}
		r.tokens = append(r.tokens, token)
	}
	theirs := v2.RouterWithPrefix("")
	for name, methods := range effects {
		theirs.GetRoute(name).HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
			r.route, r.repository, r.does = name, mux.Vars(req)["name"], methods[req.Method]
			// As in StartBlobUpload, which reads a form's body, too.
			if slices.Equal(r.does, push) && req.Method == "POST" && req.FormValue("mount") != "" && req.FormValue("from") != "" {
				r.does = mounts
			}
		})
	}
	r.gate = &registry.Handler{
		Authenticator: &registry.Authenticator{Verifier: verifier},
		Policy: registry.Policy{Contexts: []string{"*"}, Roles: registry.Roles{
			Pull: []string{role + "pull/{context_id}"}, Push: []string{role + "push/{context_id}"}, Delete: []string{role + "delete/{context_id}"},
		}},
		Next:    theirs,
		Observe: func(_ *http.Request, d registry.Decision) { r.decision = d },
	}
	return r
}

// serve makes a request as who holds everybody[i], and notes what came of it.
// It is false for what net/http refuses by itself.
func (r *router) serve(i int, method, target, header, body string) bool {
	text := method + " " + target + " HTTP/1.1\r\nHost: example.com\r\n"
	for line := range strings.SplitSeq(header, "\n") {
		if line != "" {
			text += line + "\r\n"
		}
	}
	text += "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		return false
	}
	req.Header.Set("Authorization", "Bearer "+r.tokens[i])
	r.route, r.repository, r.does = "", "", nil
	r.gate.ServeHTTP(httptest.NewRecorder(), req)
	return true
}

// check makes a request as everybody, who must not do more than they may.
func (r *router) check(t *testing.T, method, target, header, body string) {
	t.Helper()
	for i, held := range everybody {
		if !r.serve(i, method, target, header, body) {
			return
		}
		for _, done := range r.does {
			if !slices.Contains(held, done) {
				t.Errorf("who may %v does %s with %s %s, %q %q: distribution's %s", held, r.does, method, target, header, body, r.route)
			}
		}
		if len(held) == 0 && r.route != "" {
			t.Errorf("who may nothing comes through with %s %s to distribution's %s", method, target, r.route)
		}
		if r.route != "" && r.repository != r.decision.Repository {
			t.Errorf("%s %s is about %q, distribution has %q", method, target, r.decision.Repository, r.repository)
		}
	}
}

const someDigest = "sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b"

var (
	methods = []string{"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "X"}

	// Requests that a client makes of a registry, and the least they need.
	ordinary = []struct {
		method, target, header, body string
		need                         actions
	}{
		{"GET", "/v2/", "", "", nothing},
		{"GET", "/v2/_catalog?n=3", "", "", pull},
		{"GET", "/v2/team/app/tags/list", "", "", pull},
		{"HEAD", "/v2/app/manifests/v1", "", "", pull},
		{"GET", "/v2/app/manifests/" + someDigest, "", "", pull},
		{"GET", "/v2/app/manifests/" + strings.Replace(someDigest, ":", "%3A", 1), "", "", pull},
		{"PUT", "/v2/a.b_c__d---e/app/manifests/V1.0-x_y", "Content-Type: application/vnd.oci.image.manifest.v1+json", "{}", push},
		{"DELETE", "/v2/app/manifests/" + someDigest, "", "", remove},
		{"GET", "/v2/app/blobs/" + someDigest, "", "", pull},
		{"DELETE", "/v2/app/blobs/" + someDigest, "", "", remove},
		{"POST", "/v2/app/blobs/uploads/", "", "", push},
		{"POST", "/v2/app/blobs/uploads/?digest=" + someDigest, "Content-Type: application/octet-stream", "mount=x&from=y", push},
		{"POST", "/v2/app/blobs/uploads/?mount=" + someDigest + "&from=other", "", "", mounts},
		{"POST", "/v2/app/blobs/uploads/", "Content-Type: application/x-www-form-urlencoded", "mount=x&from=y", mounts},
		{"GET", "/v2/app/blobs/uploads/6e24-_.=", "", "", push},
		{"PATCH", "/v2/app/blobs/uploads/6e24?_state=x", "Content-Type: application/octet-stream", "blob", push},
		{"PUT", "/v2/app/blobs/uploads/6e24?_state=x&digest=" + someDigest, "", "", push},
		{"DELETE", "/v2/app/blobs/uploads/6e24?_state=x", "", "", push},
		{"DELETE", "/v2/foo/manifests/manifests/x", "", "", remove},
		{"DELETE", "/v2/a/blobs/uploads/b/manifests/x", "", "", remove},
		{"PUT", "/v2/a/blobs/uploads/b", "", "", push},
		{"GET", "/v2/a/tags/list/tags/list", "", "", pull},
		{"GET", "/v2/a/manifests/tags/list", "", "", pull},
	}

	// What distribution might take for another thing than it looks.
	odd = []string{
		"/", "/v2", "//v2/", "/v2//", "/v2/./", "/v2/../v2/", "/%762/", "/v2/_catalog/", "/v2/%5fcatalog", "/v2/_catalog/tags/list",
		"/v2/app//manifests/v1", "/v2/app/./manifests/v1", "/v2/x/../app/manifests/v1", "/v2/app/manifests/v1/", "/v2/app%2Fmanifests%2Fv1", "/v2/%61pp/manifests/v1",
		"/v2/app/blobs/uploads", "/v2/app/blobs/uploads//", "/v2/app/blobs%2fuploads/x", "/v2/app/blobs/uploads/..%2f..%2fmanifests%2fv1", "/v2/app/blobs/uploads/%2e%2e/" + someDigest,
		"/v2/a/blobs/uploads/manifests/x", "/v2/a/manifests/blobs/uploads/", "/v2/a/manifests/blobs/uploads/x", "/v2/a/blobs/manifests/uploads", "/v2/a/blobs/uploads/blobs/" + someDigest,
		"/v2/tags/list", "/v2/tags/tags/list", "/v2/manifests/v1", "/v2/blobs/uploads/", "/v2/blobs/uploads/x", "/v2/blobs/" + someDigest, "/v2/uploads/blobs/uploads/uploads",
		"/v2/LOCALHOST:5000/app/manifests/v1", "/v2/[::1]:5000/app/manifests/v1", "/v2/app;x/manifests/v1", "/v2/app/manifests/v1;x", "/v2/app/manifests/v1%3fx", "/v2/app/manifests/v1%00",
		"/v2/app/manifests/.v1", "/v2/app/manifests/..", "/v2/app/blobs/uploads/.", "/v2/app/blobs/uploads/.x", "/v2/app/blobs/uploads/-", "/v2/app/blobs/sha512+b64:x-_=",
		"http://example.com/v2/app/manifests/v1", "http://example.com", "*",
	}

	// Ways to ask for a mount, or not quite.
	mountings = []struct{ query, header, body string }{
		{"?mount=x&from=y", "", ""},
		{"?%6dount=x&%66rom=y", "", ""},
		{"?mount=x;from=y", "", ""},
		{"?x=;&mount=x&from=y", "", ""},
		{"?mount=x", "", "from=y"},
		{"?mount=x", "Content-Type: application/x-www-form-urlencoded", "from=y"},
		{"", "Content-Type: application/x-www-form-urlencoded", "mount=x&from=y"},
		{"", "content-type: APPLICATION/X-WWW-FORM-URLENCODED ;", "mount=x&from=y"},
		{"", "Content-Type: application/x-www-form-urlencoded; charset=", "mount=x&from=y"},
		{"", "Content-Type: application/x-www-form-urlencoded\nContent-Type: application/json", "mount=x&from=y"},
		{"", "Content-Type: application/json\nContent-Type: application/x-www-form-urlencoded", "mount=x&from=y"},
		{"", "Content-Type: multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=mount\r\n\r\nx\r\n--b\r\nContent-Disposition: form-data; name=from\r\n\r\ny\r\n--b--\r\n"},
		{"", "Content-Type: multipart/mixed; boundary=b", "--b\r\nContent-Disposition: form-data; name=mount\r\n\r\nx\r\n--b\r\nContent-Disposition: form-data; name=from\r\n\r\ny\r\n--b--\r\n"},
		{"", "Content-Type: text/plain", "mount=x&from=y"},
	}
)

func TestOrdinaryRequestsNeedNoMoreThanTheyDo(t *testing.T) {
	r := newRouter(t)
	for _, o := range ordinary {
		for i, held := range everybody {
			want := len(held) > 0
			for _, needed := range o.need {
				want = want && slices.Contains(held, needed)
			}
			if !r.serve(i, o.method, o.target, o.header, o.body) {
				t.Fatalf("%s %s is not HTTP", o.method, o.target)
			}
			if (r.route != "") != want {
				t.Errorf("%s %s by who may %v comes through: %v, want %v", o.method, o.target, held, r.route != "", want)
			}
			if want && !slices.Equal(r.does, o.need) && len(o.need) > 0 {
				t.Errorf("%s %s does %v, want %v", o.method, o.target, r.does, o.need)
			}
		}
		r.check(t, o.method, o.target, o.header, o.body)
	}
}

func TestDistributionNeverDoesMoreThanWasAskedFor(t *testing.T) {
	r := newRouter(t)
	for _, method := range methods {
		for _, target := range odd {
			r.check(t, method, target, "", "")
		}
		for _, o := range ordinary {
			r.check(t, method, o.target, o.header, o.body)
		}
		for _, target := range []string{"/v2/app/blobs/uploads/", "/v2/app/blobs/uploads/x"} {
			for _, m := range mountings {
				r.check(t, method, target+m.query, m.header, m.body)
			}
		}
	}
}

// A repository may be called what else tells two routes apart.
func TestRoutesAreToldApartAsDistributionDoes(t *testing.T) {
	r := newRouter(t)
	for _, path := range paths("/v2", []string{"manifests", "blobs", "uploads", "tags", "list"}, 4) {
		for _, last := range []string{"", "/", "/" + someDigest} {
			for _, method := range []string{"GET", "PUT", "DELETE"} {
				r.check(t, method, path+last, "", "")
			}
		}
	}
}

// paths are those of at most n words below prefix.
func paths(prefix string, words []string, n int) []string {
	all := []string{prefix}
	if n > 0 {
		for _, word := range words {
			all = append(all, paths(prefix+"/"+word, words, n-1)...)
		}
	}
	return all
}

func FuzzActions(f *testing.F) {
	for _, o := range ordinary {
		f.Add(o.method, o.target, o.header, o.body)
	}
	for _, target := range odd {
		f.Add("DELETE", target, "", "")
	}
	for _, m := range mountings {
		f.Add("POST", "/v2/app/blobs/uploads/"+m.query, m.header, m.body)
	}
	r := newRouter(f)
	f.Fuzz(func(t *testing.T, method, target, header, body string) {
		r.check(t, method, target, header, body)
	})
}

// The same with distribution itself: a blob of another repository is mounted by
// nobody who may not pull it.
func TestMountNeedsPull(t *testing.T) {
	r := newRouter(t)
	r.gate.Next = handlers.NewApp(t.Context(), &configuration.Configuration{
		Storage: configuration.Storage{"inmemory": {}, "maintenance": {"uploadpurging": map[any]any{"enabled": false}}},
	})
	blob := "a blob of another repository"
	sum := digest.FromString(blob)
	do := func(held actions, target, header, body string) int {
		t.Helper()
		i := slices.IndexFunc(everybody, func(a actions) bool { return slices.Equal(a, held) })
		req := httptest.NewRequest("POST", target, strings.NewReader(body))
		if name, value, found := strings.Cut(header, ": "); found {
			req.Header.Set(name, value)
		}
		req.Header.Set("Authorization", "Bearer "+r.tokens[i])
		w := httptest.NewRecorder()
		r.gate.ServeHTTP(w, req)
		if location := w.Header().Get("Location"); w.Code == http.StatusAccepted && body == blob {
			u, err := url.Parse(location)
			if err != nil {
				t.Fatal(err)
			}
			req := httptest.NewRequest("PUT", u.RequestURI()+"&digest="+sum.String(), strings.NewReader(body))
			req.Header.Set("Authorization", "Bearer "+r.tokens[i])
			w = httptest.NewRecorder()
			r.gate.ServeHTTP(w, req)
		}
		return w.Code
	}
	if got := do(push, "/v2/other/blobs/uploads/", "", blob); got != http.StatusCreated {
		t.Fatalf("a push answers %d, want 201", got)
	}
	form := url.Values{"mount": {sum.String()}, "from": {"other"}}.Encode()
	for i, tt := range []struct{ query, header, body string }{
		{"?" + form, "", ""},
		{"", "Content-Type: application/x-www-form-urlencoded", form},
		{"", "Content-Type: APPLICATION/x-www-form-urlencoded; charset=", form},
		{"?mount=" + url.QueryEscape(sum.String()), "Content-Type: application/x-www-form-urlencoded", "from=other"},
	} {
		target := fmt.Sprintf("/v2/app%d/blobs/uploads/%s", i, tt.query)
		if got := do(push, target, tt.header, tt.body); got != http.StatusForbidden {
			t.Errorf("POST %s %q by who may push only = %d, want 403", target, tt.header, got)
		}
		if got := do(mounts, target, tt.header, tt.body); got != http.StatusCreated {
			t.Errorf("POST %s %q by who may pull and push = %d, want 201", target, tt.header, got)
		}
	}
}

// Distribution looks for parameters in a form's body as well, and keeps in
// files what does not fit into memory. Those would stay.
func TestNoMultipartBodyComesThrough(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Setenv("TMP", dir) // Windows
	r := newRouter(t)
	r.gate.Next = handlers.NewApp(t.Context(), &configuration.Configuration{
		Storage: configuration.Storage{"inmemory": {}, "maintenance": {"uploadpurging": map[any]any{"enabled": false}}},
	})
	// More than net/http keeps in memory (32 MB, and 10 MB for what is no file).
	body := "--b\r\nContent-Disposition: form-data; name=x; filename=x\r\n\r\n" + strings.Repeat("x", 43<<20) + "\r\n--b--\r\n"
	all := len(everybody) - 1
	for _, method := range []string{"POST", "PATCH", "PUT"} {
		for _, contentType := range []string{"multipart/form-data; boundary=b", "MultiPart/Form-Data;boundary=b", "\u00a0multipart/form-data; boundary=b"} {
			target := "/v2/app/blobs/uploads/"
			if method != "POST" {
				target += "00000000-0000-0000-0000-000000000000?_state="
			}
			req := httptest.NewRequest(method, target, strings.NewReader(body))
			req.Header.Set("Content-Type", contentType)
			req.Header.Set("Authorization", "Bearer "+r.tokens[all])
			w := httptest.NewRecorder()
			r.gate.ServeHTTP(w, req)
			if w.Code != http.StatusBadRequest || r.decision.Err == nil {
				t.Errorf("%s with %q = %d, want 400 of the gate's", method, contentType, w.Code)
			}
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range left {
		t.Errorf("%s is left", file.Name())
	}
}
