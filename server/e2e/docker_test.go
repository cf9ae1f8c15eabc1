package e2e

import (
	"strings"
	"testing"
	"time"
)

func TestDockerWithALogin(t *testing.T) {
	t.Parallel()
	p := startPlatform(t)
	m := newMachine(t).withDocker()
	m.login(p)
	calls := m.recordCalls()
	ref := p.Registry + "/hello:v1"

	m.run("docker", "login", p.Registry)
	if got, want := calls(), "get store"; got != want {
		t.Errorf("docker login called %q, want %q", got, want)
	}

	m.build(ref) // asks for the credentials of every registry, even from scratch
	m.run("docker", "push", ref)
	built := m.imageID(ref)
	m.run("docker", "rmi", ref)
	m.run("docker", "pull", ref)
	if got, want := calls(), "get get get"; got != want {
		t.Errorf("docker build, push and pull called %q, want %q", got, want)
	}
	if pulled := m.imageID(ref); pulled != built {
		t.Errorf("pulled image %s, want the one that was pushed, %s", pulled, built)
	}

	m.run("docker", "logout", p.Registry)
	if got := calls(); !strings.HasPrefix(got, "erase") {
		t.Errorf("docker logout called %q, want erase", got)
	}
	m.run("docker", "rmi", ref)
	if r := m.try("", "docker", "pull", ref); r.err == nil {
		t.Errorf("after docker logout, docker pull still works: %v", r)
	}
	got := m.try(p.Registry, "docker-credential-dtz", "get")
	if want := "credentials not found in native keychain"; got.err == nil || strings.TrimSpace(got.stdout) != want {
		t.Errorf("after docker logout: %v\nwant an error and %q", got, want)
	}
}

func TestDockerLoginWithAnAPIKey(t *testing.T) {
	t.Parallel()
	p := startPlatform(t)
	m := newMachine(t).withDocker()
	m.configure(p)
	login := func(key string) result {
		return m.try(key, "docker", "login", "--username", "apikey", "--password-stdin", p.Registry)
	}

	if r := login(strings.ToUpper(p.APIKey)); r.err == nil {
		t.Fatalf("docker login accepts an API key that does not exist: %v", r)
	}
	if r := m.try(p.Registry, "docker-credential-dtz", "get"); r.err == nil {
		t.Fatal("a refused API key was kept")
	}
	if r := login(p.APIKey); r.err != nil {
		t.Fatal(r)
	}
	if c := m.get(p); c.Username != "bearer" || c.Secret == p.APIKey {
		t.Errorf("get answers user %q, want bearer and a token made from the key", c.Username)
	}
	m.pushAndPull(p)
}

func TestDockerLoginWithAToken(t *testing.T) {
	t.Parallel()
	p := startPlatform(t)
	elsewhere := newMachine(t)
	elsewhere.login(p)
	token := strings.TrimSpace(elsewhere.run("docker-credential-dtz", "token", "--registry", p.Registry))

	m := newMachine(t).withDocker()
	m.configure(p)
	m.feed(token, "docker", "login", "--username", "bearer", "--password-stdin", p.Registry)
	if got := p.called("/token/refresh"); got != 1 {
		t.Errorf("the identity service was asked %d times whether the token is good, want once", got)
	}
	if c := m.get(p); c.Username != "bearer" {
		t.Errorf("get answers user %q, want bearer", c.Username)
	}
	m.pushAndPull(p)
}

// pushAndPull sends an image to the registry and fetches it back.
func (m *machine) pushAndPull(p *platform) {
	m.t.Helper()
	ref := p.Registry + "/there-and-back"
	m.build(ref)
	m.run("docker", "push", ref)
	m.run("docker", "rmi", ref)
	m.run("docker", "pull", ref)
}

// Compose starts one helper for each image at the same time; so do we, when a
// renewal is due.
func TestParallelPullsRenewOnce(t *testing.T) {
	t.Parallel()
	// After a quarter of its life, a token is renewed when it is asked for.
	const lifetime = 80 * time.Second
	const quarter = lifetime / 4
	p := startPlatform(t, "--token-lifetime", lifetime.String())
	m := newMachine(t).withDocker()
	m.login(p)
	refs := []string{p.Registry + "/web", p.Registry + "/db", p.Registry + "/cache", p.Registry + "/queue"}
	for _, ref := range refs {
		m.build(ref)
		m.run("docker", "push", ref)
		m.run("docker", "rmi", ref)
	}
	due := expiry(t, m.get(p).Secret).Add(quarter - lifetime)
	time.Sleep(time.Until(due.Add(2 * time.Second)))
	before, start := p.called("/token/refresh"), time.Now()

	pulls := make(chan result)
	for _, ref := range refs {
		go func() { pulls <- m.try("", "docker", "pull", ref) }()
	}
	for range refs {
		if r := <-pulls; r.err != nil {
			t.Error(r)
		}
	}
	// On a machine that takes longer than that, the next renewal is due.
	took := time.Since(start)
	most := 1 + int(took/quarter)
	if got := p.called("/token/refresh") - before; got < 1 || got > most {
		t.Errorf("%d pulls in %v renewed %d times, want once in %v", len(refs), took, got, quarter)
	}
}
