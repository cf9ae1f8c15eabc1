package e2e

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// configure --podman, for whoever has no Docker: the entry is in containers'
// auth.json alone, in the one that outlives a reboot.
func TestConfigurePodman(t *testing.T) {
	testenv.Need(t, "skopeo", "podman")
	t.Parallel()
	p := startPlatform(t)
	m := newMachine(t)
	m.login(p, "--no-configure")
	calls := m.recordCalls()
	ref := p.Registry + "/podman"
	push := []string{"copy", "--insecure-policy", "--dest-tls-verify=false", "oci:" + image(t), "docker://" + ref}

	runtimeDir, err := os.MkdirTemp("", "run") // a short path, which podman wants
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(runtimeDir) })
	m.env["XDG_RUNTIME_DIR"] = runtimeDir
	pull := append(m.podmanFlags(), "pull", "--tls-verify=false", ref)
	first := filepath.Join(runtimeDir, "containers", "auth.json")
	if err := os.MkdirAll(filepath.Dir(first), 0o700); err != nil {
		t.Fatal(err)
	}
	firstHolds := func(auth string) {
		t.Helper()
		if err := os.WriteFile(first, []byte(`{"auths":{"`+p.Registry+`":{`+auth+`}}}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	firstHolds("") // as podman login and logout leave it

	if r := m.try("", "skopeo", push...); r.err == nil {
		t.Errorf("pushed without a credential: %v", r)
	}
	m.run("docker-credential-dtz", "configure", "--podman")
	_ = calls()
	m.run("skopeo", push...)
	if got := calls(); got != "get" {
		t.Errorf("skopeo calls %q, want get", got)
	}
	m.run("podman", pull...)
	if got := calls(); got != "get" {
		t.Errorf("podman calls %q, want get", got)
	}

	// What is said of the file that is asked first is so.
	firstHolds(fmt.Sprintf(`"auth":%q`, base64.StdEncoding.EncodeToString([]byte("bearer:outdated"))))
	if r := m.try("", "skopeo", push...); r.err == nil || calls() != "" {
		t.Errorf("a credential in %s does not come first: %v", first, r)
	}
	m.run("podman", append(m.podmanFlags(), "logout", p.Registry)...)
	_ = calls()
	m.run("skopeo", push...)

	m.run("docker-credential-dtz", "unconfigure", "--podman")
	if r := m.try("", "podman", pull...); r.err == nil {
		t.Errorf("pulled without a credential: %v", r)
	}
}
