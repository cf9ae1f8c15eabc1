package e2e

import (
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// image is the folder of an OCI image layout (image-spec, image-layout.md) with
// one image of random bytes.
func image(t *testing.T) string {
	t.Helper()
	img, err := random.Image(1024, 1)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "image")
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(img); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestCrane(t *testing.T) {
	t.Parallel()
	p := startPlatform(t)
	m := newMachine(t)
	m.login(p)
	ref := p.Registry + "/crane"
	pushed := strings.TrimSpace(m.run("crane", "push", image(t), ref))
	if got := strings.TrimSpace(m.run("crane", "digest", "--full-ref", ref)); got != pushed {
		t.Errorf("the registry has %s, want what was pushed, %s", got, pushed)
	}
	m.run("crane", "pull", ref, filepath.Join(t.TempDir(), "pulled.tar"))
}

func TestSkopeo(t *testing.T) {
	testenv.Need(t, "skopeo")
	t.Parallel()
	p := startPlatform(t)
	m := newMachine(t)
	m.login(p)
	ref := "docker://" + p.Registry + "/skopeo"
	m.run("skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", "oci:"+image(t), ref)
	m.run("skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", ref, "dir:"+t.TempDir())
}

func TestPodman(t *testing.T) {
	testenv.Need(t, "podman")
	t.Parallel()
	p := startPlatform(t)
	m := newMachine(t)
	m.login(p)
	podman := func(args ...string) {
		t.Helper()
		m.run("podman", append(m.podmanFlags(), args...)...)
	}
	ref := p.Registry + "/podman"
	m.run("crane", "push", image(t), ref)
	podman("pull", "--tls-verify=false", ref)
	podman("tag", ref, ref+":again")
	podman("push", "--tls-verify=false", ref+":again")
}

// podmanFlags give podman a place of its own, and what works without systemd
// and without a file system for it.
func (m *machine) podmanFlags() []string {
	return []string{
		"--root", filepath.Join(m.home, "root"),
		"--runroot", filepath.Join(m.env["XDG_RUNTIME_DIR"], "podman"), // 50 characters at most
		"--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file",
	}
}

// They run the helper with their own standard error.
func TestClientsShowThatALoginExpired(t *testing.T) {
	t.Parallel()
	p := startPlatform(t, "--token-lifetime", "15s")
	ref := p.Registry + "/hello"
	pipeline := newRunner(t, p)
	pipeline.env["DTZ_API_KEY"] = p.APIKey
	pipeline.run("crane", "push", image(t), ref) // so that nothing but the login is missing
	m := newMachine(t)
	m.login(p)
	waitUntilExpired(t, m.get(p))
	for _, tt := range []struct {
		client string
		args   []string
	}{
		{"crane", []string{"pull", ref, filepath.Join(m.home, "pulled.tar")}},
		{"skopeo", []string{"copy", "--insecure-policy", "--src-tls-verify=false", "docker://" + ref, "dir:" + t.TempDir()}},
		{"podman", append(m.podmanFlags(), "pull", "--tls-verify=false", ref)},
	} {
		t.Run(tt.client, func(t *testing.T) {
			if tt.client != "crane" { // which we built
				testenv.Need(t, tt.client)
			}
			r := m.try("", tt.client, tt.args...)
			wantHelperLine(t, r, p, `login expired .*; run "docker-credential-dtz login`)
		})
	}
}

// wantHelperLine checks that a client failed by itself and showed one line of
// the helper's, about p's registry, that matches pattern.
func wantHelperLine(t *testing.T, r result, p *platform, pattern string) {
	t.Helper()
	line := regexp.MustCompile(`(?m)^docker-credential-dtz: ` + regexp.QuoteMeta(p.Registry) + `: ` + pattern)
	exit, ended := errors.AsType[*exec.ExitError](r.err)
	if !ended || !exit.Exited() || !line.MatchString(r.stderr) || strings.Count(r.stderr, "docker-credential-dtz: ") != 1 {
		t.Errorf("%v\nwant a failure and, on standard error, one line of the helper's, which matches %s", r, line)
	}
}
