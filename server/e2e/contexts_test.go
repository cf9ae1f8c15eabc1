package e2e

import (
	"strings"
	"testing"
)

// The same person, logged in to another context on each machine.
func TestContextsAreApart(t *testing.T) {
	t.Parallel()
	p := startPlatform(t)
	machines := []*machine{newMachine(t).withDocker(), newMachine(t).withDocker()}
	images := []string{"of-the-first", "of-the-second"}
	for i, m := range machines {
		m.login(p, "--context", p.Contexts[i])
		ref := p.Registry + "/" + images[i]
		m.build(ref)
		m.run("docker", "push", ref)
		m.run("docker", "rmi", ref)
	}
	for i, m := range machines {
		own, others := images[i], images[1-i]
		if got := strings.TrimSpace(m.run("crane", "catalog", p.Registry)); got != own {
			t.Errorf("the catalogue of context %d is %q, want %q", i, got, own)
		}
		m.run("docker", "pull", p.Registry+"/"+own)
		r := m.try("", "docker", "pull", p.Registry+"/"+others)
		if r.err == nil || !strings.Contains(r.stderr, "manifest unknown") {
			t.Errorf("the other context's image: %v\nwant it unknown", r)
		}
	}
}
