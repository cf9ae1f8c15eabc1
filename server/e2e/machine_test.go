package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// A machine is a computer that somebody uses a registry from: a home folder, a
// PATH with the helper, and what else its environment says. It has nothing of
// the machine that runs the tests.
type machine struct {
	t    *testing.T
	home string
	env  map[string]string
}

// newMachine is a machine with a keychain.
func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, home: t.TempDir()}
	m.env = map[string]string{
		"HOME": m.home,
		"PATH": bin + string(os.PathListSeparator) + os.Getenv("PATH"),
		// A program with the race detector sleeps for a second before it ends.
		"GORACE": "atexit_sleep_ms=0",
		// The builder that needs no plug-in.
		"DOCKER_BUILDKIT": "0",
	}
	maps.Copy(m.env, testenv.Keychain(t))
	// Without a configuration Docker would pick a store by itself.
	m.dockerConfig(filepath.Join(m.home, ".docker"), `{"auths":{}}`)
	return m
}

// withDocker gives the machine a Docker engine.
func (m *machine) withDocker() *machine {
	m.t.Helper()
	m.env["DOCKER_HOST"] = dockerHost(m.t)
	return m
}

func (m *machine) dockerConfig(dir, config string) {
	m.t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// recordCalls has every call of the helper noted, and returns what was noted
// since the last look: the verbs, in order.
func (m *machine) recordCalls() (calls func() string) {
	m.t.Helper()
	dir := m.t.TempDir()
	log := filepath.Join(dir, "log")
	script := fmt.Sprintf("#!/bin/sh\necho \"$1\" >>'%s'\nexec '%s' \"$@\"\n", log, program("docker-credential-dtz"))
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-dtz"), []byte(script), 0o700); err != nil {
		m.t.Fatal(err)
	}
	m.env["PATH"] = dir + string(os.PathListSeparator) + m.env["PATH"]
	return func() string {
		verbs, err := os.ReadFile(log)
		if err != nil && !os.IsNotExist(err) {
			m.t.Fatal(err)
		}
		_ = os.Remove(log)
		return strings.Join(strings.Fields(string(verbs)), " ")
	}
}

// A result is how a program ended.
type result struct {
	command        string
	stdout, stderr string
	err            error
}

func (r result) String() string {
	return fmt.Sprintf("%s: %v\nstandard output: %s\nstandard error: %s", r.command, r.err, r.stdout, r.stderr)
}

// try runs a program with stdin as its standard input.
func (m *machine) try(stdin string, name string, args ...string) result {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	command := strings.Join(append([]string{name}, args...), " ")
	if own := program(name); exists(own) {
		name = own
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = m.home
	cmd.Env = []string{} // nil would be ours
	for name, value := range m.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	return result{command, stdout.String(), stderr.String(), err}
}

// run is try for what has to succeed. It returns the standard output.
func (m *machine) run(name string, args ...string) string {
	m.t.Helper()
	return m.feed("", name, args...)
}

// feed is run with stdin as the standard input.
func (m *machine) feed(stdin, name string, args ...string) string {
	m.t.Helper()
	r := m.try(stdin, name, args...)
	if r.err != nil {
		m.t.Fatal(r)
	}
	return r.stdout
}

// login logs in with the helper, which sets Docker up.
func (m *machine) login(p *platform, flags ...string) {
	m.t.Helper()
	m.env["DTZ_IDENTITY_URL"] = p.Identity
	m.feed(p.Password, "docker-credential-dtz", append([]string{
		"login",
		"--registry", p.Registry, "--yes", "--username", p.Username, "--password-stdin",
	}, flags...)...)
	delete(m.env, "DTZ_IDENTITY_URL") // what the login serves, the binding knows
}

// configure sets Docker up without a login.
func (m *machine) configure(p *platform) {
	m.t.Helper()
	m.env["DTZ_IDENTITY_URL"] = p.Identity
	m.run("docker-credential-dtz", "configure", "--registry", p.Registry, "--yes")
	delete(m.env, "DTZ_IDENTITY_URL")
}

// A credential is what the helper answers to get.
type credential struct{ ServerURL, Username, Secret string }

func (m *machine) get(p *platform) credential {
	m.t.Helper()
	var c credential
	out := m.feed(p.Registry, "docker-credential-dtz", "get")
	if err := json.Unmarshal([]byte(out), &c); err != nil {
		m.t.Fatalf("get answered %d bytes that are not JSON: %v", len(out), err)
	}
	return c
}

// keepInUse asks for a credential every two seconds until stop is called, so
// that a login does not end because a step takes longer than a token lives.
func (m *machine) keepInUse(p *platform) (stop func()) {
	m.t.Helper()
	ctx, cancel := context.WithCancel(m.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(2 * time.Second):
			}
			if r := m.try(p.Registry, "docker-credential-dtz", "get"); r.err != nil {
				m.t.Error(r)
				return
			}
		}
	}()
	stop = func() {
		cancel()
		<-done
	}
	m.t.Cleanup(stop)
	return stop
}

// build makes an image from scratch whose content is its own name.
func (m *machine) build(ref string) {
	m.t.Helper()
	dir := m.t.TempDir()
	for name, text := range map[string]string{"Dockerfile": "FROM scratch\nCOPY name /\n", "name": ref} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			m.t.Fatal(err)
		}
	}
	m.run("docker", "build", "--tag", ref, dir)
}

func (m *machine) imageID(ref string) string {
	m.t.Helper()
	return m.run("docker", "image", "inspect", "--format", "{{.Id}}", ref)
}

// waitUntilExpired waits until the token of the last get has ended by every
// clock: the helper counts from when it received it, the token from when it was
// made.
func waitUntilExpired(t *testing.T, c credential) {
	t.Helper()
	time.Sleep(time.Until(expiry(t, c.Secret).Add(5 * time.Second)))
}

// expiry is when a token ends.
func expiry(t *testing.T, token string) time.Time {
	t.Helper()
	segments := strings.Split(token, ".")
	if len(segments) != 3 {
		t.Fatalf("a token of %d segments, want 3", len(segments))
	}
	payload, err := base64.RawURLEncoding.DecodeString(segments[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Exp int64 `json:"exp"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil || claims.Exp == 0 {
		t.Fatalf("a token without exp (%v)", err)
	}
	return time.Unix(claims.Exp, 0)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
