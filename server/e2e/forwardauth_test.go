package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

func TestNginx(t *testing.T) {
	testenv.Need(t, "nginx")
	t.Parallel()
	g := newGuarded(t, true, wide)
	f := g.newNginx(t)
	t.Run("with underscores in headers", func(t *testing.T) {
		g.newNginx(t, "underscores_in_headers off;", "underscores_in_headers on;").testHeaders(t)
	})
	f.test(t)
}

func TestCaddy(t *testing.T) {
	testenv.Need(t, "caddy")
	t.Parallel()
	newGuarded(t, false, wide).newCaddy(t).test(t)
}

// wide has a token of nearly 48 KiB, the longest that counts.
var wide = identity.User{Name: "wide", Password: "of wide", Subject: "identity-wide0001", Contexts: []string{served}, Roles: wideRoles()}

func wideRoles() []string {
	roles := slices.Clone(alice.Roles)
	for i := range 487 {
		roles = append(roles, fmt.Sprintf("https://dtz.rocks/containerregistry/admin/context-of-somebody-%08d", i))
	}
	return roles
}

func (f *front) test(t *testing.T) {
	t.Run("headers", f.testHeaders)
	t.Run("images", f.testImages)
	t.Run("credentials", f.testCredentials)
	t.Run("refusals", f.testRefusals)
	t.Run("crane and the helper", f.testCrane)
	t.Run("out of reach", f.testOutOfReach)
}

func (f *front) token(t *testing.T, u identity.User, context string) string {
	t.Helper()
	token, err := f.Issue(u.Subject, context)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.wantNotLogged(t, token) })
	return token
}

func (f *front) apiKey(t *testing.T) string {
	t.Helper()
	key, err := f.CreateKey(alice.Subject, served, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.wantNotLogged(t, key) })
	return key
}

func (f *front) wantNotLogged(t *testing.T, secret string) {
	t.Helper()
	basic := base64.StdEncoding.EncodeToString([]byte("bearer:" + secret))
	for _, file := range f.logs {
		log := read(t, file)
		if strings.Contains(log, secret) || strings.Contains(log, basic) {
			t.Errorf("a credential is in the log of %s", filepath.Base(file))
		}
	}
}

// An answer is what the client gets.
type answer struct {
	status int
	header http.Header
	body   string
	// The first error in an OCI error body.
	code, message string
}

// do sends a request with headers as they are spelled, "Name: value" each.
func (f *front) do(t *testing.T, method, uri string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+f.address+uri, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header[name] = append(req.Header[name], value)
	}
	resp, err := f.transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, body: string(body)}
	var oci struct {
		Errors []struct{ Code, Message string }
	}
	if json.Unmarshal(body, &oci) == nil && len(oci.Errors) == 1 {
		a.code, a.message = oci.Errors[0].Code, oci.Errors[0].Message
	}
	return a
}

// wantCaller checks who has made the requests that reached the registry, and
// that it has got nothing else that says so.
func (f *front) wantCaller(t *testing.T, want identity.User) []*http.Request {
	t.Helper()
	requests := f.arrived()
	if len(requests) == 0 {
		t.Error("nothing has reached the registry")
	}
	for _, r := range requests {
		wanted := map[string]string{"X-Dtz-Identity": want.Subject, "X-Dtz-Context": served}
		for name, values := range r.Header {
			plain := strings.ToLower(name)
			switch {
			case wanted[name] != "":
				if !slices.Equal(values, []string{wanted[name]}) {
					t.Errorf("%s %s: the registry got %s %q, want %q", r.Method, r.URL, name, values, wanted[name])
				}
				delete(wanted, name)
			case strings.Contains(plain, "dtz"), plain == "authorization", plain == "x-api-key", plain == "cookie":
				t.Errorf("%s %s: the registry got %s, which is not for it", r.Method, r.URL, name)
			}
		}
		for name := range wanted {
			t.Errorf("%s %s: the registry got no %s", r.Method, r.URL, name)
		}
	}
	return requests
}

// wantNothing checks that nothing has reached the registry.
func (f *front) wantNothing(t *testing.T) {
	t.Helper()
	for _, r := range f.arrived() {
		t.Errorf("%s %s has reached the registry", r.Method, r.RequestURI)
	}
}

// Clients say who they are in every spelling that some server may understand,
// and have a proxy leave out what it says.
func (f *front) testHeaders(t *testing.T) {
	var imitations []string
	for _, name := range []string{"Identity", "Context"} {
		for _, prefix := range []string{"X-Dtz-", "X-Dtz_", "X_Dtz-", "X_Dtz_", "X.Dtz.", "x-dtz-", "X-DTZ-"} {
			imitations = append(imitations, prefix+name+": "+strings.ToLower(name)+"-mallory1")
		}
	}
	imitations = append(imitations, "Connection: X-Dtz-Identity, X-Dtz-Context, X-Forwarded-Method, X-Original-Method")
	for _, header := range append(imitations, "X-Nothing: special") {
		a := f.do(t, "GET", "/v2/", "Authorization: Bearer "+f.token(t, alice, served), "Cookie: dtz-auth=something", header)
		if a.status != http.StatusOK {
			t.Errorf("%s: %d %s, want 200", header, a.status, a.body)
		}
		f.wantCaller(t, alice)
	}
	f.do(t, "GET", "/v2/", append(imitations, "Authorization: Bearer "+f.token(t, alice, served))...)
	f.wantCaller(t, alice)
	if a := f.do(t, "GET", "/v2/", imitations...); a.status != http.StatusUnauthorized {
		t.Errorf("without a credential: %d, want 401", a.status)
	}
	f.wantNothing(t)
}

func (f *front) testImages(t *testing.T) {
	ref, err := name.ParseReference(f.address + "/hello/world:latest")
	if err != nil {
		t.Fatal(err)
	}
	image, err := random.Image(2<<20, 2)
	if err != nil {
		t.Fatal(err)
	}
	want, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	as := func(u identity.User) []remote.Option {
		auth := &authn.Basic{Username: "bearer", Password: f.token(t, u, served)}
		return []remote.Option{remote.WithAuth(auth), remote.WithTransport(f.transport)}
	}
	// Only the manifest: a refused push of layers still has requests under way.
	if err := remote.Put(ref, image, as(reader)...); err == nil || !strings.Contains(err.Error(), "missing role") {
		t.Errorf("a push by somebody who may pull ends with %v, want the missing role", err)
	}
	f.arrived()
	if err := remote.Write(ref, image, as(alice)...); err != nil {
		t.Fatal(err)
	}
	var methods []string
	for _, r := range f.wantCaller(t, alice) {
		methods = append(methods, r.Method)
	}
	for _, method := range []string{"HEAD", "POST", "PATCH", "PUT"} {
		if !slices.Contains(methods, method) {
			t.Errorf("a push arrives as %v, want a %s as well", methods, method)
		}
	}
	pulled, err := remote.Image(ref, as(reader)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(pulled); err != nil {
		t.Error(err)
	}
	f.wantCaller(t, reader)
	if got, _ := pulled.Digest(); got != want {
		t.Errorf("pulled %s, want %s", got, want)
	}
	f.wantMethods(t, "/v2/hello/world/manifests/"+want.String())
}

// wantMethods checks that who may pull cannot delete a manifest, whatever he
// says about the method, and that it is still there.
func (f *front) wantMethods(t *testing.T, manifest string) {
	t.Helper()
	authorization := "Authorization: Bearer " + f.token(t, reader, served)
	accept := "Accept: application/vnd.docker.distribution.manifest.v2+json"
	for _, header := range [][]string{
		nil,
		{"X-Forwarded-Method: GET"},
		{"X-Original-Method: GET"},
		{"X-Forwarded-Method: GET", "X-Forwarded-Uri: " + manifest},
		{"X-Original-Method: GET", "X-Original-Uri: " + manifest},
		{"X-Forwarded-Method: GET", "X-Forwarded-Uri: " + manifest, "X-Original-Method: GET", "X-Original-Uri: " + manifest},
		{"X_Forwarded_Method: GET", "X_Forwarded_Uri: " + manifest},
		{"X_Original_Method: GET", "X_Original_Uri: " + manifest},
		{"Connection: X-Forwarded-Method, X-Forwarded-Uri, X-Original-Method, X-Original-Uri"},
		{"X-Http-Method-Override: GET"},
		{"X-HTTP-Method: GET"},
		{"X-Method-Override: GET"},
	} {
		a := f.do(t, "DELETE", manifest, append(header, authorization)...)
		// 400 from Caddy where the client contradicts it in a spelling of its own.
		if a.status != http.StatusForbidden && (f.nginx || a.status != http.StatusBadRequest || !strings.HasPrefix(header[0], "X_")) {
			t.Errorf("DELETE with %q: %d, want 403", header, a.status)
		}
		f.wantNothing(t)
	}
	for _, override := range []string{"X-Http-Method-Override", "X-HTTP-Method", "X-Method-Override"} {
		if a := f.do(t, "GET", manifest, authorization, accept, override+": DELETE"); a.status != http.StatusForbidden {
			t.Errorf("GET with %s: %d, want 403", override, a.status)
		}
	}
	if a := f.do(t, "GET", manifest+"?_method=DELETE", authorization, accept); a.status != http.StatusForbidden {
		t.Errorf("GET with _method: %d, want 403", a.status)
	}
	f.wantNothing(t)
	if a := f.do(t, "GET", manifest, authorization, accept); a.status != http.StatusOK {
		t.Errorf("GET: %d, want 200", a.status)
	}
	if a := f.do(t, "DELETE", manifest, "Authorization: Bearer "+f.token(t, alice, served)); a.status != http.StatusAccepted {
		t.Errorf("DELETE by who may: %d %s, want 202", a.status, a.body)
	}
	f.arrived()
}

func (f *front) testCredentials(t *testing.T) {
	basic := func(user, password string) string {
		return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	token, key, longest := f.token(t, alice, served), f.apiKey(t), f.token(t, wide, served)
	if size := len(longest); size < 47<<10 || size > 48<<10 {
		t.Fatalf("a token of %d bytes, want nearly 48 KiB", size)
	}
	for _, tt := range []struct {
		name   string
		header []string
		want   identity.User
	}{
		{"a token as a password", []string{basic("bearer", token)}, alice},
		{"a bearer token", []string{"Authorization: Bearer " + token}, alice},
		{"an API key as a password", []string{basic("apikey", key)}, alice},
		{"an API key in its header", []string{"X-API-KEY: " + key}, alice},
		{"an API key and a context", []string{"X-API-KEY: " + key, "X-DTZ-CONTEXT: abc12345"}, alice},
		{"a cookie among others", []string{"Cookie: theme=dark; dtz-auth=" + token}, alice},
		{"a long token as a password", []string{basic("bearer", longest)}, wide},
	} {
		if a := f.do(t, "GET", "/v2/", tt.header...); a.status != http.StatusOK {
			t.Errorf("%s: %d %s, want 200", tt.name, a.status, a.body)
		}
		f.wantCaller(t, tt.want)
	}
	// Not by the proxy, for the size of its header.
	if a := f.do(t, "GET", "/v2/", basic("bearer", strings.Repeat("x", 48<<10))); a.status != http.StatusUnauthorized {
		t.Errorf("a token of 48 KiB: %d, want 401", a.status)
	}
	f.wantNothing(t)
}

func (f *front) testRefusals(t *testing.T) {
	good := "Authorization: Bearer " + f.token(t, alice, served)
	key := f.apiKey(t)
	for _, tt := range []struct {
		name    string
		method  string
		uri     string
		header  string
		status  int
		message string // in the OCI error body; "" is not looked at
	}{
		{"no credential", "GET", "/v2/", "", 401, ""},
		{"a token that is none", "GET", "/v2/", "Authorization: Bearer x", 401, ""},
		{"a cookie, to change something", "POST", "/v2/hello/blobs/uploads/", "Cookie: dtz-auth=" + f.token(t, alice, served), 401, ""},
		{"another context", "GET", "/v2/", "Authorization: Bearer " + f.token(t, alice, other), 403, other + " may not use this registry"},
		{"somebody who may pull pushes", "PUT", "/v2/hello/manifests/latest", "Authorization: Bearer " + f.token(t, reader, served), 403, "missing role https://dtz.rocks/containerregistry/admin/" + served},
		{"something beside the API", "GET", "/metrics", good, 404, ""},
		{"something above the API", "GET", "/v2/../metrics", good, 404, ""},
		{"something above the API, escaped", "GET", "/v2/%2e%2e/metrics", good, 404, ""},
		{"the API from above", "GET", "/metrics/../v2/", good, 403, "nothing but the registry's API is served here"},
		{"an escaped slash", "GET", "/v2/hello%2fworld/tags/list", good, 403, "nothing but the registry's API is served here"},
		{"two slashes", "GET", "/v2//_catalog", good, 403, "nothing but the registry's API is served here"},
		{"a key in the query", "GET", "/v2/?apiKey=" + key, "", 400, ""},
		{"a key in the query behind an empty one", "GET", "/v2/?apiKey=&apiKey=" + key, good, 400, ""},
		{"a key in the query and a token", "GET", "/v2/?n=1&apiKey=" + key, good, 400, ""},
	} {
		var header []string
		if tt.header != "" {
			header = []string{tt.header}
		}
		a := f.do(t, tt.method, tt.uri, header...)
		if a.status != tt.status || tt.message != "" && a.message != tt.message {
			t.Errorf("%s: %d %s, want %d %s", tt.name, a.status, a.body, tt.status, tt.message)
		}
		if tt.status == 401 && !slices.Equal(a.header["Www-Authenticate"], []string{`Basic realm="dtz.rocks"`}) {
			t.Errorf("%s: challenges %q, want the one of dtz.rocks", tt.name, a.header["Www-Authenticate"])
		}
		if tt.status == 403 && a.code != "DENIED" {
			t.Errorf("%s: code %q, want DENIED", tt.name, a.code)
		}
		f.wantNothing(t)
	}
}

func (f *front) testCrane(t *testing.T) {
	p := &platform{Registry: f.address, Identity: f.identityURL}
	m := newRunner(t, p)
	m.env["DTZ_API_KEY"] = f.apiKey(t)
	m.env["SSL_CERT_FILE"] = f.certificate
	ref := f.address + "/crane"
	pushed := strings.TrimSpace(m.run("crane", "push", image(t), ref))
	if got := strings.TrimSpace(m.run("crane", "digest", "--full-ref", ref)); got != pushed {
		t.Errorf("the registry has %s, want what was pushed, %s", got, pushed)
	}
	m.run("crane", "pull", ref, filepath.Join(t.TempDir(), "pulled.tar"))
	f.wantCaller(t, alice)
}

// Who is away lets nobody in, and is not taken for a refusal.
func (f *front) testOutOfReach(t *testing.T) {
	good := "Authorization: Bearer " + f.token(t, alice, served)
	key := "X-Api-Key: " + f.apiKey(t)
	f.stopIdentity()
	a := f.do(t, "GET", "/v2/", key)
	if a.status != 503 || a.header.Get("Retry-After") == "" || a.code != "UNAVAILABLE" {
		t.Errorf("the identity service is away: %d %v %s, want 503 with Retry-After", a.status, a.header, a.body)
	}
	f.wantNothing(t)
	if a := f.do(t, "GET", "/v2/", good); a.status != 200 {
		t.Errorf("the identity service is away: a token gets %d, want 200", a.status)
	}
	f.wantCaller(t, alice)

	f.stopVerify()
	if a := f.do(t, "GET", "/v2/", good); a.status != 500 && a.status != 502 {
		t.Errorf("dtz-registry verify is away: %d, want 500 or 502", a.status)
	}
	f.wantNothing(t)
}
