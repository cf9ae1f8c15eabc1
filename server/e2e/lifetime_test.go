package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// One login, through the end of the first token's life, into a pause that is
// longer than any token's.
func TestLoginOutlivesItsFirstToken(t *testing.T) {
	t.Parallel()
	p := startPlatform(t, "--token-lifetime", "20s")
	m := newMachine(t).withDocker()
	m.login(p)
	first := m.get(p).Secret
	if got := p.status(t, first); got != http.StatusOK {
		t.Errorf("the registry answers the first token with %d, want 200", got)
	}
	start := time.Now()
	stop := m.keepInUse(p)
	// Stores what it got, which must not end the renewals.
	m.run("docker", "login", p.Registry)
	ref := p.Registry + "/hello"
	m.build(ref)
	m.run("docker", "push", ref+":latest")

	time.Sleep(time.Until(start.Add(25 * time.Second)))
	if got := p.status(t, first); got != http.StatusUnauthorized {
		t.Errorf("after %v the registry answers the first token with %d, want 401", time.Since(start), got)
	}
	m.run("docker", "tag", ref, ref+":again")
	m.run("docker", "push", ref+":again")
	m.run("docker", "rmi", ref+":again")
	stop()

	waitUntilExpired(t, m.get(p))
	const line = `login expired .*; run "docker-credential-dtz login`
	get := m.try(p.Registry, "docker-credential-dtz", "get")
	wantHelperLine(t, get, p, line)
	if strings.Count(get.stderr, "\n") != 1 {
		t.Errorf("after a pause: %v\nwant one line on standard error", get)
	}
	wantHelperLine(t, m.try("", "docker", "pull", ref+":again"), p, line)
}

// With a key of its own a login outlives any pause, and leaves none behind.
func TestKeptLoginOutlivesAPause(t *testing.T) {
	t.Parallel()
	p := startPlatform(t, "--token-lifetime", "15s")
	m := newMachine(t).withDocker()
	m.login(p, "--keep")
	waitUntilExpired(t, m.get(p))
	m.pushAndPull(p)

	m.run("docker-credential-dtz", "logout") // fails if it cannot delete the key
	deleted := p.deletedKeys()
	if len(deleted) != 1 {
		t.Fatalf("logging out deleted %d keys, want the one that was made", len(deleted))
	}
	if r := m.try("", "docker", "pull", p.Registry+"/there-and-back"); r.err == nil {
		t.Errorf("logged out, docker pull still works: %v", r)
	}
	pipeline := newRunner(t, p).withDocker()
	login := pipeline.try(deleted[0], "docker", "login", "--username", "apikey", "--password-stdin", p.Registry)
	if login.err == nil || !strings.Contains(login.stderr, "401") {
		t.Errorf("with the deleted key: %v\nwant 401 from the registry", login)
	}
	pipeline.env["DTZ_API_KEY"] = deleted[0]
	get := pipeline.try(p.Registry, "docker-credential-dtz", "get")
	wantHelperLine(t, get, p, "the API key of DTZ_API_KEY was refused ")
}
