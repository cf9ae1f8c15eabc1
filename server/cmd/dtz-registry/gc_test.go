package main

import (
	"bytes"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/DownToZero-Cloud/docker-credential-dtz/server/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/tenant"
)

func TestGC(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "dtz.yaml")
	settings := "verification: {contexts: [\"*\"]}\nregistry: {storage: {filesystem: {rootdirectory: " + filepath.Join(dir, "images") + "}}}\n"
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	gc := func(args ...string) (code int, stdout, stderr string) {
		var out, errOut bytes.Buffer
		code = run(t.Context(), append([]string{"gc", "--config", file}, args...), strings.NewReader(""), &out, &errOut)
		return code, out.String(), errOut.String()
	}
	if code, stdout, stderr := gc(); code != 0 || stdout != "No context has images here.\n" || stderr != "" {
		t.Errorf("where nothing has been pushed: %d %s%s, want 0 and that", code, stdout, stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, "images")); err == nil {
		t.Error("gc makes a storage where there is none")
	}

	// Two contexts push an image each, and one of them deletes its own.
	c, _, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	apps := tenant.New(c.Distribution)
	for _, id := range []string{"context-abc12345", "context-def67890"} {
		app, err := apps.App(id)
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(app)
		defer server.Close()
		ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/app:v1")
		if err != nil {
			t.Fatal(err)
		}
		image, err := random.Image(1<<20, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, image); err != nil {
			t.Fatal(err)
		}
		if id == "context-abc12345" {
			digest, err := image.Digest()
			if err != nil {
				t.Fatal(err)
			}
			if err := remote.Delete(ref.Context().Digest(digest.String())); err != nil {
				t.Fatal(err)
			}
		}
	}

	unlock, err := apps.Lock(false)
	if err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := gc(); code != 1 || !strings.Contains(stderr, "in use by another process; end dtz-registry serve first") {
		t.Errorf("beside a server: %d %s, want 1 and what to do", code, stderr)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	dryRun := "context-abc12345: 3 blobs would be deleted, 1.0 MiB freed\ncontext-def67890: 0 blobs would be deleted, 0 B freed\n"
	for range 2 {
		if code, stdout, stderr := gc("--dry-run"); code != 0 || stdout != dryRun {
			t.Errorf("a dry run: %d %s%s, want 0 %s", code, stdout, stderr, dryRun)
		}
	}
	code, stdout, stderr := gc()
	if want := "context-abc12345: 3 blobs deleted, 1.0 MiB freed\ncontext-def67890: 0 blobs deleted, 0 B freed\n"; code != 0 || stdout != want {
		t.Errorf("%d %s%s, want 0 %s", code, stdout, stderr, want)
	}
	if code, stdout, _ := gc("--context", "def67890"); code != 0 || stdout != "context-def67890: 0 blobs deleted, 0 B freed\n" {
		t.Errorf("one context: %d %s", code, stdout)
	}
	if code, stdout, _ := gc("--context", "def67890", "--delete-untagged"); code != 0 || stdout != "context-def67890: 0 manifests and 0 blobs deleted, 0 B freed\n" {
		t.Errorf("with what has no tag: %d %s", code, stdout)
	}
	if code, _, stderr := gc("--context", "zzz99999"); code != 1 || !strings.Contains(stderr, "context-zzz99999 has no images here") {
		t.Errorf("a context that is not there: %d %s, want 1", code, stderr)
	}
	if code, _, stderr := gc("--context", "../etc"); code != 1 || !strings.Contains(stderr, "not a context id") {
		t.Errorf("a path for a context: %d %s, want 1", code, stderr)
	}

	// What is broken in one context is reported, and the others are seen to.
	broken := filepath.Join(dir, "images", "context-broken01", "docker")
	if err := os.MkdirAll(broken, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(broken, "registry"), nil, 0o600); err != nil { // a file for a folder
		t.Fatal(err)
	}
	code, stdout, stderr = gc()
	if code != 1 || !strings.Contains(stderr, "context-broken01: ") || !strings.Contains(stdout, "context-def67890: 0 blobs deleted") {
		t.Errorf("a broken context: %d %s%s, want 1, its error, and the other's line", code, stdout, stderr)
	}
}

func TestGCNeedsAConfiguration(t *testing.T) {
	var out, errOut bytes.Buffer
	if code := run(t.Context(), []string{"gc"}, strings.NewReader(""), &out, &errOut); code != 2 || !strings.Contains(errOut.String(), "--config is required") {
		t.Errorf("%d %s, want 2", code, &errOut)
	}
}

func TestSize(t *testing.T) {
	for bytes, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536 << 10: "1.5 MiB", 5 << 40: "5.0 TiB", 5 << 50: "5120.0 TiB"} {
		if got := size(bytes); got != want {
			t.Errorf("size(%d) = %s, want %s", bytes, got, want)
		}
	}
}
