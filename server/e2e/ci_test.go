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

// Docker swallows what the helper says to it, and shows what it says to people.
func TestPipelineWithoutAUsableKey(t *testing.T) {
	t.Parallel()
	p := startPlatform(t)
	m := newRunner(t, p).withDocker()
	ref := p.Registry + "/pipeline"
	for _, tt := range []struct {
		name string
		key  string
		line string
	}{
		{"that is refused", "apikey-" + strings.Repeat("x", 24), "the API key of DTZ_API_KEY was refused .*; replace the key, or unset DTZ_API_KEY$"},
		{"that is empty", "", `not logged in \(DTZ_API_KEY set but empty\); run "docker-credential-dtz login`},
	} {
		m.env["DTZ_API_KEY"] = tt.key
		for _, client := range [][]string{{"docker", "pull", ref}, {"crane", "pull", ref, filepath.Join(m.home, "pulled.tar")}} {
			t.Run(client[0]+" and a key "+tt.name, func(t *testing.T) {
				r := m.try("", client[0], client[1:]...)
				wantHelperLine(t, r, p, tt.line)
				if tt.key != "" && strings.Contains(r.stdout+r.stderr, tt.key) {
					t.Error("the key is shown")
				}
			})
		}
	}
}
