package e2e

import (
	"path/filepath"
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
		m.run("podman", append([]string{
			"--root", filepath.Join(m.home, "root"), "--runroot", filepath.Join(m.home, "runroot"),
			// What works without systemd and without a file system for it.
			"--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "file",
		}, args...)...)
	}
	ref := p.Registry + "/podman"
	m.run("crane", "push", image(t), ref)
	podman("pull", "--tls-verify=false", ref)
	podman("tag", ref, ref+":again")
	podman("push", "--tls-verify=false", ref+":again")
}
