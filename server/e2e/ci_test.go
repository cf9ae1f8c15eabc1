package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// newRunner is the machine of a CI service: no home folder, no keychain, no
// D-Bus, a Docker configuration that the pipeline wrote.
func newRunner(t *testing.T, p *platform) *machine {
	t.Helper()
	m := &machine{t: t, home: t.TempDir()}
	config := filepath.Join(m.home, "docker")
	m.dockerConfig(config, `{"credHelpers":{"`+p.Registry+`":"dtz"}}`)
	m.env = map[string]string{
		"PATH":             bin + string(os.PathListSeparator) + os.Getenv("PATH"),
		"TMPDIR":           t.TempDir(),
		"DOCKER_CONFIG":    config,
		"DOCKER_BUILDKIT":  "0",
		"DTZ_IDENTITY_URL": p.Identity,
		"DTZ_REGISTRIES":   p.Registry,
	}
	return m
}

func TestPipeline(t *testing.T) {
	keyFile := func(t *testing.T, p *platform, m *machine) {
		file := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(file, []byte(p.APIKey+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		m.env["DTZ_API_KEY_FILE"] = file
	}
	key := func(_ *testing.T, p *platform, m *machine) { m.env["DTZ_API_KEY"] = p.APIKey }
	docker := func(t *testing.T, p *platform, m *machine) { m.withDocker().pushAndPull(p) }
	crane := func(t *testing.T, p *platform, m *machine) {
		ref := p.Registry + "/pipeline"
		m.run("crane", "push", image(t), ref)
		m.run("crane", "pull", ref, filepath.Join(t.TempDir(), "pulled.tar"))
	}
	for _, tt := range []struct {
		name   string
		key    func(*testing.T, *platform, *machine)
		client func(*testing.T, *platform, *machine)
	}{
		{"Docker and DTZ_API_KEY", key, docker},
		{"Docker and DTZ_API_KEY_FILE", keyFile, docker},
		{"crane and DTZ_API_KEY", key, crane},
		{"crane and DTZ_API_KEY_FILE", keyFile, crane},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := startPlatform(t)
			m := newRunner(t, p)
			tt.key(t, p, m)
			tt.client(t, p, m)
			if c := m.get(p); c.Username != "bearer" {
				t.Errorf("get answers user %q, want bearer", c.Username)
			}
			if got := p.called("/auth/apikey"); got != 1 {
				t.Errorf("the key was exchanged %d times, want once for all calls of the helper", got)
			}
		})
	}
}

func TestPipelineWithARefusedKey(t *testing.T) {
	t.Parallel()
	p := startPlatform(t)
	m := newRunner(t, p)
	key := "apikey-" + strings.Repeat("x", 24)
	m.env["DTZ_API_KEY"] = key
	r := m.try("", "crane", "digest", p.Registry+"/pipeline")
	if r.err == nil || !strings.Contains(r.stderr, "docker-credential-dtz: "+p.Registry+": ") {
		t.Errorf("%v\nwant an error and the helper's line", r)
	}
	if strings.Contains(r.stdout+r.stderr, key) {
		t.Error("the refused key is shown")
	}
}
