package e2e

import (
	"net/http"
	"regexp"
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
	start := time.Now()
	first := m.get(p).Secret
	// Stores what it got, which must not end the renewals.
	m.run("docker", "login", p.Registry)
	ref := p.Registry + "/hello"
	m.build(ref)
	m.run("docker", "push", ref+":latest")
	if got := p.status(t, first); got != http.StatusOK {
		t.Errorf("the registry answers the first token with %d, want 200", got)
	}

	for time.Since(start) < 25*time.Second {
		m.get(p)
		time.Sleep(4 * time.Second)
	}
	m.run("docker", "tag", ref, ref+":again")
	m.run("docker", "push", ref+":again")
	if got := p.status(t, first); got != http.StatusUnauthorized {
		t.Errorf("after %v the registry answers the first token with %d, want 401", time.Since(start), got)
	}

	time.Sleep(time.Until(expiry(t, m.get(p).Secret).Add(time.Second)))
	line := regexp.MustCompile(`(?m)^docker-credential-dtz: ` + regexp.QuoteMeta(p.Registry) + `: login expired .*; run "docker-credential-dtz login`)
	got := m.try(p.Registry, "docker-credential-dtz", "get")
	if got.err == nil || !line.MatchString(got.stderr) || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("after a pause: %v\nwant an error and, on standard error, one line that matches %s", got, line)
	}
	m.run("docker", "rmi", ref+":again")
	pull := m.try("", "docker", "pull", ref+":again")
	if pull.err == nil || !line.MatchString(pull.stderr) {
		t.Errorf("after a pause: %v\nwant an error and, for the person, a line that matches %s", pull, line)
	}
}
