//go:build clients

package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// write puts a file into the home folder and returns its path.
func (m *machine) write(name, text string) string {
	m.t.Helper()
	path := filepath.Join(m.home, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
	return path
}

// layout makes the OCI image layout "image" in the home folder, with one image
// that is called v1, and returns the image's digest.
func (m *machine) layout() (digest string) {
	m.t.Helper()
	dir := filepath.Join(m.home, "image")
	if err := os.RemoveAll(dir); err != nil {
		m.t.Fatal(err)
	}
	layer, err := random.Layer(1024, types.OCILayer)
	if err != nil {
		m.t.Fatal(err)
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		m.t.Fatal(err)
	}
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		m.t.Fatal(err)
	}
	name := layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "v1"})
	if err := path.AppendImage(img, name); err != nil {
		m.t.Fatal(err)
	}
	hash, err := img.Digest()
	if err != nil {
		m.t.Fatal(err)
	}
	return hash.String()
}

// seed puts an image into the second context of the registry, without a login,
// and returns its digest.
func (m *machine) seed(p *platform, repository string) (digest string) {
	m.t.Helper()
	digest = m.layout()
	env := maps.Clone(m.env)
	m.env["DTZ_API_KEY"], m.env["DTZ_CONTEXT_ID"] = p.APIKey, p.Contexts[1]
	m.env["DTZ_IDENTITY_URL"], m.env["DTZ_REGISTRIES"] = p.Identity, p.Registry
	m.run("crane", "push", "image", p.Registry+"/"+repository+":v1")
	m.env = env
	return digest
}

// withPlugin gives the machine one of Docker's plug-ins.
func (m *machine) withPlugin(name string) {
	m.t.Helper()
	path, err := exec.LookPath("docker-" + name)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, config := range []string{m.env["DOCKER_CONFIG"], filepath.Join(m.home, ".docker")} {
		link := filepath.Join(config, "cli-plugins", "docker-"+name)
		if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
			m.t.Fatal(err)
		}
		if err := os.Symlink(path, link); err != nil && !errors.Is(err, fs.ErrExist) {
			m.t.Fatal(err)
		}
	}
	delete(m.env, "DOCKER_BUILDKIT")
}

// inLayout is the index of the layout "pulled".
func inLayout(m *machine, _ *platform) string { return m.read(filepath.Join("pulled", "index.json")) }

func (m *machine) read(name string) string {
	m.t.Helper()
	text, err := os.ReadFile(filepath.Join(m.home, name))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(text)
}

// containers gives podman and buildah a place of their own, and what works
// without systemd and without a file system for it.
func (m *machine) containers() {
	m.t.Helper()
	m.env["CONTAINERS_STORAGE_CONF"] = m.write("storage.conf", fmt.Sprintf(
		"[storage]\ndriver = \"vfs\"\ngraphroot = %q\nrunroot = %q\n",
		filepath.Join(m.home, "storage"), filepath.Join(m.env["XDG_RUNTIME_DIR"], "podman"))) // 50 characters at most
	m.env["CONTAINERS_CONF"] = m.write("containers.conf", "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n")
}

// buildFrom is the folder "hello" with a Dockerfile that adds a file to base.
func (m *machine) buildFrom(base string) (dir string) {
	m.t.Helper()
	m.write(filepath.Join("hello", "hello.txt"), "hello\n")
	return filepath.Dir(m.write(filepath.Join("hello", "Dockerfile"), "FROM "+base+"\nCOPY hello.txt /\n"))
}

// noDockerConfig takes all configurations away that name a helper.
func (m *machine) noDockerConfig() {
	m.t.Helper()
	for _, file := range []string{
		filepath.Join(m.env["DOCKER_CONFIG"], "config.json"),
		filepath.Join(m.home, ".docker", "config.json"),
		filepath.Join(m.home, ".config", "containers", "auth.json"),
	} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			m.t.Fatal(err)
		}
	}
}

// goProgram is one without dependencies, and lets it be built as quickly as here.
func (m *machine) goProgram() {
	m.t.Helper()
	m.write("go.mod", "module example.com/hello\n\ngo 1.21\n")
	m.write("main.go", "package main\n\nfunc main() { println(\"hello\") }\n")
	m.env["GOPROXY"] = "off"
	for _, cache := range []string{"GOCACHE", "GOMODCACHE"} {
		folder, err := exec.Command("go", "env", cache).Output()
		if err != nil {
			m.t.Fatal(err)
		}
		m.env[cache] = strings.TrimSpace(string(folder))
	}
}
