package dev_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/internal/dev"
)

func TestDataOutlivesARestart(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	before := start(t, dev.Options{Data: data})
	auth := before.login("")
	kept, err := (&oauth.Client{BaseURL: before.Identity}).CreateKey(t.Context(), secret.String(auth.Password), before.Contexts[0], "laptop")
	if err != nil {
		t.Fatal(err)
	}
	want, err := before.push("app:v1", auth).Digest()
	if err != nil {
		t.Fatal(err)
	}
	before.stop()

	after := start(t, dev.Options{Data: data})
	if after.Password != before.Password || after.APIKey != before.APIKey || after.PublicKey != before.PublicKey || !slices.Equal(after.Contexts, before.Contexts) {
		t.Error("a restart makes another user")
	}
	after.login("")
	for name, auth := range map[string]authn.Authenticator{"the old token": auth, "the API key": apiKey(after.APIKey), "a kept key": apiKey(kept.Reveal())} {
		if got, err := after.pull("app:v1", auth); got != want || err != nil {
			t.Errorf("with %s after a restart: pulled %v, %v, want %v", name, got, err, want)
		}
	}
	if err := after.IdentityService.DeleteKey(after.APIKey); err != nil {
		t.Fatal(err)
	}
	after.stop()

	again := start(t, dev.Options{Data: data})
	if again.APIKey == after.APIKey {
		t.Error("the deleted API key is still offered")
	}
	again.want(200, "GET", "/v2/", apiKey(again.APIKey))
	again.want(401, "GET", "/v2/", apiKey(after.APIKey))
}

// Two instances would overwrite each other's API keys.
func TestDataIsOfOneInstanceAtATime(t *testing.T) {
	data := t.TempDir()
	first := start(t, dev.Options{Data: data})
	_, err := dev.Start(t.Context(), dev.Options{Data: data, Addr: first.Registry}) // as with the default address
	if err == nil || !strings.Contains(err.Error(), data+" is in use") {
		t.Errorf("a second start: %v, want an error that names the folder in use", err)
	}
	first.want(200, "GET", "/v2/", apiKey(first.APIKey))
	first.stop()
	if _, err := dev.Start(t.Context(), dev.Options{Data: data, Addr: "192.0.2.1:0"}); err == nil || strings.Contains(err.Error(), "in use") {
		t.Errorf("a start at a bad address: %v, want that said", err)
	}
	second := start(t, dev.Options{Data: data})
	second.want(200, "GET", "/v2/", apiKey(first.APIKey))
}

func TestNoDataIsAnotherUserEachTime(t *testing.T) {
	a, b := start(t, dev.Options{}), start(t, dev.Options{})
	if a.Password == b.Password || a.APIKey == b.APIKey || a.PublicKey == b.PublicKey || a.Contexts[0] == b.Contexts[0] {
		t.Error("two instances share secrets")
	}
	b.want(401, "GET", "/v2/", a.login(""))
}

func TestSecretsAreTheOwnersOnly(t *testing.T) {
	data := t.TempDir()
	i := start(t, dev.Options{Data: data})
	i.push("app:v1", i.login(""))
	found := 0
	err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "dev.lock" { // which nobody else may read on Windows
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.Contains(text, []byte(i.Password)) && !bytes.Contains(text, []byte(i.APIKey)) {
			return nil
		}
		found++
		info, err := d.Info()
		if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("%s holds secrets with mode %v, want 0600", path, info.Mode().Perm())
		}
		return err
	})
	if err != nil || found != 1 {
		t.Errorf("%d files hold the secrets (%v), want 1", found, err)
	}
}

func TestBrokenStateIsNamedNotReplaced(t *testing.T) {
	for _, text := range []string{
		"", "not JSON canary", `{"password":"canary"}`,
		`{"username":"canary","password":"canary","subject":"identity-canary01","contexts":[],"signingKey":"Y2FuYXJ5"}`,
		`{"username":"canary","password":"canary","subject":"identity-canary01","contexts":["identity-canary01"],"signingKey":"Y2FuYXJ5"}`,
		`{"username":"canary","password":"canary","subject":"identity-canary01","contexts":["context-canary01"],"signingKey":"Y2FuYXJ5"}`,
	} {
		data := t.TempDir()
		path := filepath.Join(data, "dev.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := dev.Start(t.Context(), dev.Options{Data: data})
		if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "canary") {
			t.Errorf("Start with the state %q: %v, want an error that names the file and not what is in it", text, err)
		}
		if left, err := os.ReadFile(path); string(left) != text || err != nil {
			t.Errorf("Start has changed the state %q to %q (%v)", text, left, err)
		}
	}
}
