package e2e

import (
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
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

// One login, and a registry with two addresses, each in a context of its own:
// whoever pushes to both at the same time finds in each what belongs there.
func TestContextsSideBySide(t *testing.T) {
	t.Parallel()
	p := startPlatform(t)
	m := newMachine(t)
	m.login(p)
	addresses := []string{p.Registry, secondAddress(t, p)}
	m.run("docker-credential-dtz", "context", "use", p.Contexts[1], "--registry", addresses[1], "--yes")
	images := []string{"of-the-first", "of-the-second"}

	var pushes sync.WaitGroup
	for i, address := range addresses {
		layout := image(t)
		pushes.Go(func() {
			if r := m.try("", "crane", "push", layout, address+"/"+images[i]); r.err != nil {
				t.Error(r)
			}
		})
	}
	pushes.Wait()
	for i, address := range addresses {
		own, others := images[i], images[1-i]
		if got := strings.TrimSpace(m.run("crane", "catalog", address)); got != own {
			t.Errorf("the catalogue at %s is %q, want %q", address, got, own)
		}
		m.run("crane", "pull", address+"/"+own, filepath.Join(t.TempDir(), "pulled.tar"))
		if r := m.try("", "crane", "digest", address+"/"+others); r.err == nil {
			t.Errorf("%s has the other context's image, too: %v", address, r)
		}
	}

	// With the default context the second address has what the first one has.
	m.run("docker-credential-dtz", "context", "use", "--default", "--registry", addresses[1])
	if got := strings.TrimSpace(m.run("crane", "catalog", addresses[1])); got != images[0] {
		t.Errorf("the catalogue of the default context is %q, want %q", got, images[0])
	}
	if n := p.called("/token/auth"); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
}

// secondAddress is another address of p's registry, as the platform's has a
// port for each context.
func secondAddress(t *testing.T, p *platform) string {
	t.Helper()
	front := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: p.Registry})
		r.Out.Host = r.In.Host // the registry's URLs begin with it
	}})
	t.Cleanup(front.Close)
	return front.Listener.Addr().String()
}
