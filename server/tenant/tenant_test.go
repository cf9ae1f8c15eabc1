package tenant_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"

	"github.com/DownToZero-Cloud/docker-credential-dtz/server/tenant"
)

const (
	mine   = "context-mine0001"
	theirs = "context-theirs01"
)

// withStorage is a configuration with nothing set but its storage.
func withStorage(storage func() configuration.Storage) func() *configuration.Configuration {
	return func() *configuration.Configuration {
		c := &configuration.Configuration{Storage: storage()}
		c.HTTP.Secret = "of uploads"
		c.Catalog.MaxEntries = 2
		return c
	}
}

func inMemory() configuration.Storage { return configuration.Storage{"inmemory": nil} }

func inFolder(dir string) func() configuration.Storage {
	return func() configuration.Storage {
		return configuration.Storage{"filesystem": {"rootdirectory": dir}}
	}
}

// client talks to one context's registry.
type client struct {
	t   *testing.T
	url string
}

func newClient(t *testing.T, apps *tenant.Apps, contextID string) client {
	t.Helper()
	app, err := apps.App(contextID)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(app)
	t.Cleanup(server.Close)
	return client{t, server.URL}
}

// do sends a request. A location that another server gave is sent to this one.
func (c client) do(method, path string, body []byte, header ...string) (status int, answer string, h http.Header) {
	c.t.Helper()
	if _, rest, found := strings.Cut(path, "/v2/"); found {
		path = "/v2/" + rest
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Accept", manifestType)
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header
}

func (c client) want(want int, method, path string, body []byte, header ...string) http.Header {
	c.t.Helper()
	status, answer, h := c.do(method, path, body, header...)
	if status != want {
		c.t.Fatalf("%s %s = %d %s, want %d", method, path, status, answer, want)
	}
	return h
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

const manifestType = "application/vnd.oci.image.manifest.v1+json"

// image is a manifest of one blob, which is also its configuration.
func image(blob []byte) (manifest []byte) {
	d := fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.config.v1+json","size":%d,"digest":"%s"}`, len(blob), digestOf(blob))
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"%s","config":%s,"layers":[%s]}`, manifestType, d, d)
}

// push stores an image of blob as repository:v1.
func (c client) push(repository string, blob []byte) {
	c.t.Helper()
	upload := c.want(http.StatusAccepted, "POST", "/v2/"+repository+"/blobs/uploads/", nil).Get("Location")
	c.want(http.StatusCreated, "PUT", upload+"&digest="+digestOf(blob), blob)
	c.want(http.StatusCreated, "PUT", "/v2/"+repository+"/manifests/v1", image(blob), "Content-Type: "+manifestType)
}

func TestContextsAreApart(t *testing.T) {
	storages := map[string]func() configuration.Storage{"in memory": inMemory, "in a folder": inFolder(t.TempDir())}
	for name, storage := range storages {
		t.Run(name, func(t *testing.T) {
			apps := tenant.New(withStorage(storage))
			us, them := newClient(t, apps, mine), newClient(t, apps, theirs)
			blob := []byte("secret sauce")
			us.push("app", blob)
			them.push("other", []byte("something else"))
			upload := us.want(http.StatusAccepted, "POST", "/v2/app/blobs/uploads/", nil).Get("Location")

			manifest := digestOf(image(blob))
			tests := []struct {
				name         string
				method, path string
				ours         int // what the registry answers where the image is
				theirs       int // and what it answers elsewhere
			}{
				{"the blob", "GET", "/v2/app/blobs/" + digestOf(blob), 200, 404},
				{"whether the blob is there", "HEAD", "/v2/app/blobs/" + digestOf(blob), 200, 404},
				{"the blob by another repository of theirs", "GET", "/v2/other/blobs/" + digestOf(blob), 404, 404},
				{"the manifest by its tag", "GET", "/v2/app/manifests/v1", 200, 404},
				{"the manifest by its digest", "GET", "/v2/app/manifests/" + manifest, 200, 404},
				{"whether the manifest is there", "HEAD", "/v2/app/manifests/" + manifest, 200, 404},
				{"the tags", "GET", "/v2/app/tags/list", 200, 404},
				{"the state of an upload", "GET", upload, 204, 404},
				{"the end of an upload", "DELETE", upload, 204, 404},
				{"deleting the blob", "DELETE", "/v2/app/blobs/" + digestOf(blob), 202, 404},
				{"deleting the manifest", "DELETE", "/v2/app/manifests/" + manifest, 202, 404},
			}
			for _, tt := range tests {
				if status, answer, _ := them.do(tt.method, tt.path, nil); status != tt.theirs {
					t.Errorf("%s, asked for elsewhere: %d %s, want %d", tt.name, status, answer, tt.theirs)
				}
			}
			// 201 would be a mount, 202 is an upload from the start.
			them.want(http.StatusAccepted, "POST", "/v2/other/blobs/uploads/?from=app&mount="+digestOf(blob), nil)
			us.want(http.StatusCreated, "POST", "/v2/app2/blobs/uploads/?from=app&mount="+digestOf(blob), nil)
			if _, answer, _ := them.do("GET", "/v2/_catalog", nil); answer != `{"repositories":["other"]}`+"\n" {
				t.Errorf("their catalogue is %s, want only their repository", answer)
			}
			for _, tt := range tests {
				if status, answer, _ := us.do(tt.method, tt.path, nil); status != tt.ours {
					t.Errorf("%s, asked for where it is: %d %s, want %d", tt.name, status, answer, tt.ours)
				}
			}
		})
	}
}

func TestSameImageInTwoContexts(t *testing.T) {
	apps := tenant.New(withStorage(inMemory))
	us, them := newClient(t, apps, mine), newClient(t, apps, theirs)
	blob := []byte("public")
	us.push("app", blob)
	them.push("app", blob)
	them.want(http.StatusAccepted, "DELETE", "/v2/app/blobs/"+digestOf(blob), nil)
	them.want(http.StatusNotFound, "GET", "/v2/app/blobs/"+digestOf(blob), nil)
	us.want(http.StatusOK, "GET", "/v2/app/blobs/"+digestOf(blob), nil)
}

func TestTwoSpellingsAreOneContext(t *testing.T) {
	dir := t.TempDir()
	apps := tenant.New(withStorage(inFolder(dir)))
	newClient(t, apps, mine).push("app", []byte("x"))
	newClient(t, apps, "mine0001").want(http.StatusOK, "GET", "/v2/app/manifests/v1", nil)
	const uuid = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
	newClient(t, apps, "context-"+uuid).push("app", []byte("x"))
	newClient(t, apps, strings.ToUpper(uuid)).want(http.StatusOK, "GET", "/v2/app/manifests/v1", nil)

	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{"context-" + uuid, mine}; !slices.Equal(names, want) {
		t.Errorf("storage roots are %v, want %v", names, want)
	}
}

func TestImagesOutliveTheApps(t *testing.T) {
	config := withStorage(inFolder(t.TempDir()))
	newClient(t, tenant.New(config), mine).push("app", []byte("x"))
	newClient(t, tenant.New(config), mine).want(http.StatusOK, "GET", "/v2/app/manifests/v1", nil)
}

func TestBadConfigurationIsAnError(t *testing.T) {
	tests := []struct {
		name   string
		change func(*configuration.Configuration)
	}{
		{"no storage", func(c *configuration.Configuration) { c.Storage = configuration.Storage{} }},
		{"an unknown storage", func(c *configuration.Configuration) { c.Storage = configuration.Storage{"tape": {}} }},
		{"two storages", func(c *configuration.Configuration) {
			c.Storage["filesystem"] = configuration.Parameters{"rootdirectory": "/x"}
		}},
		{"a folder that is not named", func(c *configuration.Configuration) { c.Storage = configuration.Storage{"filesystem": {}} }},
		{"a pattern that is none", func(c *configuration.Configuration) { c.Validation.Manifests.URLs.Allow = []string{"("} }},
	}
	for _, tt := range tests {
		apps := tenant.New(func() *configuration.Configuration {
			c := &configuration.Configuration{Storage: inMemory()}
			tt.change(c)
			return c
		})
		if _, err := apps.App(mine); err == nil || !strings.Contains(err.Error(), mine) {
			t.Errorf("%s: App gives the error %v, want one that names the context", tt.name, err)
		}
	}
}

// Distribution reads its settings from the environment as well.
func TestWhatWouldGoRoundTheVerificationIsSwitchedOff(t *testing.T) {
	t.Setenv("REGISTRY_AUTH_SILLY_REALM", "elsewhere")
	t.Setenv("REGISTRY_AUTH_SILLY_SERVICE", "elsewhere")
	t.Setenv("REGISTRY_PROXY_REMOTEURL", "http://127.0.0.1:1")
	t.Setenv("REGISTRY_HTTP_PREFIX", "/elsewhere/")
	t.Setenv("REGISTRY_HTTP_DEBUG_PROMETHEUS_ENABLED", "true")
	t.Setenv("REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR", "redis")
	t.Setenv("REGISTRY_STORAGE_DELETE_ENABLED", "false")
	apps := tenant.New(func() *configuration.Configuration {
		c, err := configuration.Parse(strings.NewReader("version: 0.1\nstorage: {inmemory: {}}\n"))
		if err != nil {
			panic(err)
		}
		if c.Proxy.RemoteURL == "" || c.HTTP.Prefix == "" || c.Auth.Type() == "" {
			t.Error("the environment does not count any more")
		}
		return c
	})
	for _, id := range []string{mine, theirs} {
		c := newClient(t, apps, id)
		c.push("app", []byte("x"))
		c.want(http.StatusAccepted, "DELETE", "/v2/app/manifests/"+digestOf(image([]byte("x"))), nil)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	w := httptest.NewRecorder()
	tenant.New(withStorage(inMemory)).ServeHTTP(w, httptest.NewRequest("GET", "/v2/", nil))
	if w.Code != http.StatusUnauthorized {
		t.Errorf("a request that nobody has verified = %d, want 401", w.Code)
	}
}

func TestCountRepositoriesReadsEveryPage(t *testing.T) {
	apps := tenant.New(withStorage(inMemory)) // two on a page
	if n, err := apps.CountRepositories(t.Context(), mine); n != 0 || err != nil {
		t.Errorf("CountRepositories = %d, %v before the first push, want 0", n, err)
	}
	for i := range 5 {
		newClient(t, apps, mine).push(fmt.Sprintf("app%d/image", i), []byte("x"))
	}
	if n, err := apps.CountRepositories(t.Context(), "mine0001"); n != 5 || err != nil {
		t.Errorf("CountRepositories = %d, %v, want 5", n, err)
	}
	if _, err := apps.CountRepositories(t.Context(), "../x"); err == nil {
		t.Error("CountRepositories counts in ../x")
	}
}
