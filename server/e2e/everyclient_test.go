//go:build clients

package e2e

import (
	"cmp"
	"debug/buildinfo"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// A client is one of the programs that people use a registry with. Its commands
// are those of docs/clients.md, for cr.dtz.rocks; what stands in brackets is for
// a registry that speaks plain http, as dtz-registry dev does.
type client struct {
	name    string
	program string                        // as it is called
	part    string                        // of testenv, which this machine may lack; empty: scripts/clients builds it
	prepare func(m *machine, p *platform) // makes what is pushed, in the home folder
	push    []string
	pull    []string // empty: the client only pulls what it needs for a push
	// forget takes away what is here already, and would not be pulled.
	forget string
	// pulled is what shows the digest that was pulled; nil: what pull says.
	pulled func(m *machine, p *platform) string
	tag    string // of hello; empty: v1
	// own is the variable that names the client's own registry configuration.
	own string
}

var everyClient = []client{
	{
		name: "docker", program: "docker", part: "docker",
		prepare: func(m *machine, p *platform) { m.withDocker().build(p.Registry + "/hello:v1") },
		push:    []string{"docker push cr.dtz.rocks/hello:v1"},
		pull:    []string{"docker pull cr.dtz.rocks/hello:v1"},
		forget:  "docker rmi --force cr.dtz.rocks/hello:v1",
	},
	{
		name: "buildx", program: "docker-buildx", part: "docker",
		prepare: func(m *machine, p *platform) {
			m.withDocker().withPlugin("buildx")
			m.seed(p, "base")
			m.buildFrom(p.Registry + "/base:v1")
		},
		push: []string{"docker buildx build --push --tag cr.dtz.rocks/hello:v1 hello"},
		pull: []string{"docker buildx imagetools inspect cr.dtz.rocks/hello:v1"},
	},
	{
		name: "podman", program: "podman", part: "podman",
		prepare: func(m *machine, p *platform) {
			m.containers()
			m.run("podman", "build", "--tag", p.Registry+"/hello:v1", m.buildFrom("scratch"))
		},
		push:   []string{"podman push [--tls-verify=false] cr.dtz.rocks/hello:v1"},
		pull:   []string{"podman pull [--tls-verify=false] cr.dtz.rocks/hello:v1"},
		forget: "podman rmi --force cr.dtz.rocks/hello:v1",
		pulled: func(m *machine, p *platform) string {
			return m.run("podman", "image", "inspect", "--format", "{{.RepoDigests}}", p.Registry+"/hello:v1")
		},
	},
	{
		name: "buildah", program: "buildah", part: "buildah",
		prepare: func(m *machine, p *platform) {
			m.containers()
			m.run("buildah", "build", "--tag", p.Registry+"/hello:v1", m.buildFrom("scratch"))
		},
		push:   []string{"buildah push [--tls-verify=false] cr.dtz.rocks/hello:v1"},
		pull:   []string{"buildah pull [--tls-verify=false] cr.dtz.rocks/hello:v1"},
		forget: "buildah rmi --force cr.dtz.rocks/hello:v1",
		pulled: func(m *machine, p *platform) string {
			return m.run("buildah", "images", "--digests", p.Registry+"/hello:v1")
		},
	},
	{
		name: "skopeo", program: "skopeo", part: "skopeo",
		prepare: func(m *machine, _ *platform) { m.layout() },
		push:    []string{"skopeo copy [--dest-tls-verify=false] oci:image docker://cr.dtz.rocks/hello:v1"},
		pull:    []string{"skopeo copy [--src-tls-verify=false] docker://cr.dtz.rocks/hello:v1 oci:pulled"},
		pulled:  inLayout,
	},
	{
		name: "crane", program: "crane",
		prepare: func(m *machine, _ *platform) { m.layout() },
		push:    []string{"crane push image cr.dtz.rocks/hello:v1"},
		pull:    []string{"crane pull --format oci cr.dtz.rocks/hello:v1 pulled"},
		pulled:  inLayout,
	},
	{
		name: "ko", program: "ko",
		prepare: func(m *machine, p *platform) {
			m.seed(p, "base")
			m.env["KO_DEFAULTBASEIMAGE"] = p.Registry + "/base:v1"
			m.goProgram()
		},
		push: []string{"KO_DOCKER_REPO=cr.dtz.rocks/hello ko build --bare --tags v1 ."},
	},
	{
		name: "cosign", program: "cosign",
		prepare: func(m *machine, p *platform) {
			m.env["DIGEST"] = m.seed(p, "hello")
			m.env["COSIGN_PASSWORD"] = ""
			if !exists(filepath.Join(m.home, "cosign.key")) {
				m.run("cosign", "generate-key-pair")
			}
		},
		push: []string{"cosign sign --key cosign.key --use-signing-config=false --tlog-upload=false [--allow-http-registry] cr.dtz.rocks/hello@$DIGEST"},
		pull: []string{"cosign verify --key cosign.pub --insecure-ignore-tlog [--allow-http-registry] cr.dtz.rocks/hello@$DIGEST"},
	},
	{
		name: "oras", program: "oras",
		prepare: func(m *machine, _ *platform) { m.write("hello.txt", "hello\n") },
		push:    []string{"oras push [--plain-http] cr.dtz.rocks/hello:v1 hello.txt"},
		pull:    []string{"oras pull [--plain-http] cr.dtz.rocks/hello:v1"},
	},
	{
		name: "helm", program: "helm",
		prepare: func(m *machine, _ *platform) {
			m.write(filepath.Join("hello", "Chart.yaml"), "apiVersion: v2\nname: hello\nversion: 1.0.0\n")
			m.run("helm", "package", "hello")
		},
		push: []string{"helm push [--plain-http] hello-1.0.0.tgz oci://cr.dtz.rocks"},
		pull: []string{"helm pull [--plain-http] oci://cr.dtz.rocks/hello --version 1.0.0"},
		tag:  "1.0.0",
		own:  "HELM_REGISTRY_CONFIG",
	},
	{
		name: "regctl", program: "regctl",
		prepare: func(m *machine, _ *platform) { m.layout() },
		push:    []string{"regctl [--host reg=cr.dtz.rocks,tls=disabled] image copy ocidir://image:v1 cr.dtz.rocks/hello:v1"},
		pull:    []string{"regctl [--host reg=cr.dtz.rocks,tls=disabled] image copy cr.dtz.rocks/hello:v1 ocidir://pulled:v1"},
		pulled:  inLayout,
	},
}

// TestEveryClient runs what docs/clients.md says, and holds the document to what
// is seen. scripts/clients calls it.
func TestEveryClient(t *testing.T) {
	for _, c := range everyClient {
		t.Run(c.name, func(t *testing.T) {
			if c.part != "" {
				testenv.Need(t, c.part)
			}
			t.Parallel()
			m := newMachine(t)
			m.env["DOCKER_CONFIG"] = filepath.Join(m.home, "docker")
			seen := seen{version: version(t, c)}

			p := startPlatform(t)
			m.loginFor(p, c)
			c.pushAndPull(m, p)
			seen.places = c.places(m, p)

			const lifetime = 10 * time.Second
			p = startPlatform(t, "--token-lifetime", lifetime.String())
			m.loginFor(p, c)
			time.Sleep(lifetime + 5*time.Second) // by every clock: see waitUntilExpired
			for _, command := range slices.Concat(c.push, []string{c.forget}, c.pull) {
				said, err := m.line(p, command)
				if command == c.forget {
					continue
				}
				if err == nil {
					t.Errorf("with an expired login %s succeeds and says:\n%s", command, said)
				}
				seen.expired += "$ " + over(command, devRegistry) + "\n" + m.neutral(said, p)
			}
			seen.compare(t, c)
		})
	}
}

// seen is what a run tells about a client.
type seen struct {
	version string
	places  []string // where it finds a credHelpers entry, of places' names
	expired string   // commands and what they say
}

// loginFor leaves Docker's configuration with an entry and nothing else, prepares
// what c pushes, and logs in to the second context, which nobody gets by accident.
func (m *machine) loginFor(p *platform, c client) {
	m.t.Helper()
	m.dockerConfig(m.env["DOCKER_CONFIG"], entry(p))
	c.prepare(m, p)
	m.login(p, "--no-configure", "--context", p.Contexts[1])
}

func entry(p *platform) string { return fmt.Sprintf(`{"credHelpers":{%q:"dtz"}}`, p.Registry) }

// pushAndPull checks that what was pushed is in the login's context, and there
// only, and that it is what was pulled.
func (c client) pushAndPull(m *machine, p *platform) {
	m.t.Helper()
	var said string
	for _, command := range c.push {
		out, err := m.line(p, command)
		if err != nil {
			m.t.Fatalf("%s: %v\n%s", command, err, out)
		}
		said = out
	}
	tag := cmp.Or(c.tag, "v1")
	digest := p.digest(m, p.Contexts[1], tag)
	if digest == "" {
		m.t.Fatalf("nothing is in the registry after %q", c.push)
	}
	if got := p.digest(m, p.Contexts[0], tag); got != "" {
		m.t.Errorf("%s is in the other context as well", got)
	}
	_, _ = m.line(p, c.forget)
	for _, command := range c.pull {
		out, err := m.line(p, command)
		if err != nil {
			m.t.Fatalf("%s: %v\n%s", command, err, out)
		}
		said = out
	}
	if c.pulled != nil {
		said = c.pulled(m, p)
	}
	if !strings.Contains(said, digest) {
		m.t.Errorf("the registry has %s, but what was pulled is\n%s", digest, said)
	}
}

// digest is that of hello:tag in a context, as the registry itself says it, or
// empty.
func (p *platform) digest(m *machine, context, tag string) string {
	m.t.Helper()
	token := strings.TrimSpace(m.run("docker-credential-dtz", "token", "--registry", p.Registry, "--context", context))
	req, err := http.NewRequestWithContext(m.t.Context(), http.MethodHead, "http://"+p.Registry+"/v2/hello/manifests/"+tag, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	req.SetBasicAuth("bearer", token)
	for _, kind := range []string{"oci.image.manifest.v1", "oci.image.index.v1", "docker.distribution.manifest.v2", "docker.distribution.manifest.list.v2"} {
		req.Header.Add("Accept", "application/vnd."+kind+"+json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return resp.Header.Get("Docker-Content-Digest")
	case http.StatusNotFound:
		return ""
	}
	m.t.Fatalf("the registry answers %s", resp.Status)
	return ""
}

// A place is where a client may look for a credHelpers entry.
type place struct {
	name string
	set  func(m *machine, config string)
}

var everyPlace = []place{
	{"`~/.docker/config.json`", func(m *machine, config string) {
		m.dockerConfig(filepath.Join(m.home, ".docker"), config)
	}},
	{"`$DOCKER_CONFIG/config.json`", func(m *machine, config string) {
		m.env["DOCKER_CONFIG"] = filepath.Join(m.home, "docker")
		m.dockerConfig(m.env["DOCKER_CONFIG"], config)
	}},
	{"`$XDG_RUNTIME_DIR/containers/auth.json`", func(m *machine, config string) {
		m.write(filepath.Join("runtime", "containers", "auth.json"), config)
		m.env["XDG_RUNTIME_DIR"] = filepath.Join(m.home, "runtime")
	}},
	{"`~/.config/containers/auth.json`", func(m *machine, config string) {
		m.write(filepath.Join(".config", "containers", "auth.json"), config)
	}},
	{"`$REGISTRY_AUTH_FILE`", func(m *machine, config string) {
		m.env["REGISTRY_AUTH_FILE"] = m.write("auth.json", config)
	}},
}

// places finds out from which places, each by itself, the client learns whom to
// ask.
func (c client) places(m *machine, p *platform) (found []string) {
	m.t.Helper()
	all := everyPlace
	if c.own != "" {
		all = append(slices.Clip(all), place{"`$" + c.own + "`", func(m *machine, config string) {
			m.env[c.own] = m.write("own.json", config)
		}})
	}
	for _, place := range all {
		env := maps.Clone(m.env)
		m.noDockerConfig()
		delete(m.env, "DOCKER_CONFIG")
		_, _ = m.line(p, c.forget)
		place.set(m, entry(p))
		commands := c.pull
		if len(commands) == 0 {
			commands = c.push
		}
		said, err := m.line(p, commands[len(commands)-1])
		switch {
		case err == nil:
			found = append(found, place.name)
		case !refused.MatchString(said):
			m.t.Errorf("with an entry in %s: %v, but not for want of a credential:\n%s", place.name, err, said)
		}
		m.env = env
	}
	m.dockerConfig(m.env["DOCKER_CONFIG"], entry(p))
	return found
}

// refused is how clients say that they had no credential.
var refused = regexp.MustCompile(`(?i)unauthorized|no basic auth|authentication required|credential (required|not found)`)

// line runs a command of docs/clients.md with p's address, and returns what it
// writes, errors among the rest, as one sees it.
func (m *machine) line(p *platform, command string) (said string, err error) {
	m.t.Helper()
	typed := os.Expand(over(command, p.Registry), func(name string) string { return m.env[name] })
	words := strings.Fields(typed)
	if len(words) == 0 {
		return "", nil
	}
	env := maps.Clone(m.env)
	defer func() { m.env = env }()
	m.env = maps.Clone(env)
	for strings.Contains(words[0], "=") {
		name, value, _ := strings.Cut(words[0], "=")
		m.env[name], words = value, words[1:]
	}
	// The shell's 2>&1 keeps the order that two buffers would lose.
	r := m.try("", "sh", append([]string{"-c", `exec "$@" 2>&1`, "sh"}, words...)...)
	if exit, ended := errors.AsType[*exec.ExitError](r.err); r.err != nil && (!ended || !exit.Exited()) {
		m.t.Fatal(r) // it did not end by itself
	}
	return r.stdout, r.err
}

var plainHTTP = regexp.MustCompile(`\[([^]]*)\]`)

// over is command for a registry that speaks plain http.
func over(command, registry string) string {
	return strings.ReplaceAll(plainHTTP.ReplaceAllString(command, "$1"), "cr.dtz.rocks", registry)
}

// version is that of the module that the client was built from, or what it says
// itself.
func version(t *testing.T, c client) string {
	t.Helper()
	path := program(c.program)
	if !exists(path) {
		var err error
		if path, err = exec.LookPath(c.program); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := buildinfo.ReadFile(path); err == nil && semver.MatchString(info.Main.Version) {
		return strings.TrimPrefix(info.Main.Version, "v")
	}
	out, err := exec.Command(path, "--version").Output()
	found := semver.Find(out)
	if err != nil || found == nil {
		t.Fatalf("%s --version says %q: %v", c.program, out, err)
	}
	return string(found)
}

var semver = regexp.MustCompile(`\d+\.\d+\.\d+`)
