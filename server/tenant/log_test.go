package tenant_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/server/tenant"
)

// logTo is not for parallel tests: the log is the process's.
func logTo(t *testing.T, level slog.Level) *bytes.Buffer {
	var out bytes.Buffer
	tenant.LogTo(slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: level})))
	t.Cleanup(func() { tenant.LogTo(nil) })
	return &out
}

func TestClientsMistakesAreNotWarnings(t *testing.T) {
	manifest := image([]byte("a layer"))
	other := digestOf([]byte("something else"))
	tests := []struct {
		name   string
		status int
		do     func(c client) int
	}{
		{"a manifest that is not there", 404, func(c client) int {
			status, _, _ := c.do("GET", "/v2/app/manifests/v1", nil)
			return status
		}},
		{"an upload that is gone", 404, func(c client) int {
			upload := c.want(http.StatusAccepted, "POST", "/v2/app/blobs/uploads/", nil).Get("Location")
			c.want(http.StatusNoContent, "DELETE", upload, nil)
			status, _, _ := c.do("PATCH", upload, []byte("a layer"))
			return status
		}},
		{"a blob with another's digest", 400, func(c client) int {
			upload := c.want(http.StatusAccepted, "POST", "/v2/app/blobs/uploads/", nil).Get("Location")
			status, _, _ := c.do("PUT", upload+"&digest="+other, []byte("a layer"))
			return status
		}},
		{"a manifest with another's digest", 400, func(c client) int {
			status, _, _ := c.do("PUT", "/v2/app/manifests/"+other, manifest, "Content-Type: "+manifestType)
			return status
		}},
		{"a manifest of blobs that are not there", 400, func(c client) int {
			status, _, _ := c.do("PUT", "/v2/app/manifests/v1", manifest, "Content-Type: "+manifestType)
			return status
		}},
		{"a digest that is none", 400, func(c client) int {
			status, _, _ := c.do("GET", "/v2/app/blobs/sha256:nonsense", nil)
			return status
		}},
	}
	for _, tt := range tests {
		c := newClient(t, tenant.New(withStorage(inMemory)), mine)
		out := logTo(t, slog.LevelInfo)
		if status := tt.do(c); status != tt.status || out.Len() > 0 {
			t.Errorf("%s = %d, logged as %s, want %d and nothing", tt.name, status, out, tt.status)
		}
	}
}

func TestBrokenStorageIsAnErrorWithoutSecrets(t *testing.T) {
	dir := t.TempDir()
	app, err := tenant.New(withStorage(inFolder(dir))).App(mine)
	if err != nil {
		t.Fatal(err)
	}
	// A file lies where the storage's folder should.
	if err := os.WriteFile(filepath.Join(dir, mine), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	out := logTo(t, slog.LevelInfo)
	r := httptest.NewRequest("GET", "/v2/app/manifests/v1?apiKey=canary", nil)
	r.Header.Set("Authorization", "Basic canary")
	r.Header.Set("Referer", "http://canary/")
	w := httptest.NewRecorder()
	app.ServeHTTP(w, r)
	if w.Code < 500 {
		t.Fatalf("asking a broken storage = %d, want 500 or more", w.Code)
	}
	if strings.Contains(out.String(), "canary") {
		t.Errorf("the log holds a secret: %s", out)
	}
	var entry map[string]any
	if err := json.Unmarshal(out.Bytes(), &entry); err != nil || entry["level"] != "ERROR" || entry["vars.name"] != "app" {
		t.Errorf("the log says %s (%v), want one error that names the repository", out, err)
	}
}
