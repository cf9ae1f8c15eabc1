package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// system is where this machine's own programs are, and no second helper.
const system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// newPatient is a machine that is logged in, and has nothing wrong with it.
func newPatient(t *testing.T, p *platform) *machine {
	t.Helper()
	m := newMachine(t)
	m.env["PATH"] = bin + ":" + system
	m.login(p)
	return m
}

// remedy has doctor look at the registry, and returns what it says of one
// check and what would mend it, "" if all is well.
func (m *machine) remedy(p *platform) (check, remedy string) {
	m.t.Helper()
	r := m.try("", "docker-credential-dtz", "doctor", "--registry", p.Registry, "--output", "json")
	var findings []struct{ Check, State, Saw, Remedy string }
	if err := json.Unmarshal([]byte(r.stdout), &findings); err != nil {
		m.t.Fatal(r, err)
	}
	for _, f := range findings {
		switch {
		case f.State == "ok" || f.State == "skipped":
		case check == "":
			check, remedy = f.Check, f.Remedy
		default:
			m.t.Errorf("it names %s, too: %s", f.Check, f.Saw)
		}
	}
	return check, remedy
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	p := startPlatform(t)
	m := newPatient(t, p)
	out := m.run("docker-credential-dtz", "doctor")
	subject := "" // made up by the platform
	if _, rest, found := strings.Cut(out, "login        "); found {
		subject, _, _ = strings.Cut(rest, " ")
	}
	want := fmt.Sprintf(`ok       user         not by way of sudo
ok       path         %[1]s/docker-credential-dtz
ok       duplicates   version devel, no other on PATH
ok       desktop      no programs here with a PATH of their own
ok       settings     %[2]s/.config/docker-credential-dtz/config.json
ok       environment  no credential in it
ok       docker       %[2]s/.docker/config.json
ok       docker-auth  DOCKER_AUTH_CONFIG is not set
ok       keychain     an item was written, read and deleted
ok       identity     %[3]s answers
ok       clock        agrees with the identity service's

%[4]s
ok       login        %[5]s in %[6]s, by the login of profile default
ok       role         https://dtz.rocks/containerregistry/admin/%[6]s
ok       wiring       Docker asks this program
ok       plaintext    no secret in Docker's config.json
ok       podman       nothing of podman's comes before Docker's config.json
ok       helm         nothing of Helm's comes before Docker's config.json
ok       registry     it takes the token
ok       service      enabled for %[6]s

19 checks, all good
`, bin, m.home, p.Identity, p.Registry, subject, p.Contexts[0])
	if withoutVersion(out) != withoutVersion(want) {
		t.Errorf("doctor says:\n%s\nwant:\n%s", out, want)
	}

	// The service has to be enabled for each context, and doctor's own command
	// does it.
	disable := "docker-credential-dtz token --registry " + p.Registry + " --header | curl --fail --silent -H @- -X POST http://" + p.Registry + "/api/2023-12-28/disable"
	m.run("sh", "-c", disable)
	check, remedy := m.remedy(p)
	if check != "service" {
		t.Fatalf("doctor names %q, want service", check)
	}
	m.run("sh", "-c", remedy)
	if check, _ := m.remedy(p); check != "" {
		t.Errorf("after %s doctor still names %s", remedy, check)
	}
}

// withoutVersion cuts the version, which depends on how the program was built.
func withoutVersion(text string) string {
	before, rest, found := strings.Cut(text, "version ")
	if !found {
		return text
	}
	_, after, _ := strings.Cut(rest, ",")
	return before + after
}

// What doctor says of secrets in the files of others, the others do.
func TestDoctorsRemediesForSecretsOfOthers(t *testing.T) {
	testenv.Need(t, "podman")
	t.Parallel()
	p := startPlatform(t)
	m := newPatient(t, p).withDocker()
	const secret = `{"auth": "YmVhcmVyOmNhbmFyeQ=="}`

	config := filepath.Join(m.home, ".docker", "config.json")
	m.dockerConfig(filepath.Dir(config), fmt.Sprintf(`{"auths": {%q: %s}, "credHelpers": {%[1]q: "dtz"}}`, p.Registry, secret))
	m.follow(p, "plaintext")
	if text, err := os.ReadFile(config); err != nil || strings.Contains(string(text), "auth\"") {
		t.Errorf("config.json is %s, %v", text, err)
	}

	containers := filepath.Join(m.home, ".config", "containers")
	if err := os.MkdirAll(containers, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(containers, "auth.json"), fmt.Appendf(nil, `{"auths": {%q: %s}}`, p.Registry, secret), 0o600); err != nil {
		t.Fatal(err)
	}
	m.follow(p, "podman")
}

// follow runs the command that doctor names for a check, and has it look again.
func (m *machine) follow(p *platform, wanted string) {
	m.t.Helper()
	check, remedy := m.remedy(p)
	_, command, found := strings.Cut(remedy, `run "`)
	command, _, closed := strings.Cut(command, `"`)
	if check != wanted || !found || !closed {
		m.t.Fatalf("doctor names %q and %q, want %s and a command", check, remedy, wanted)
	}
	m.run("sh", "-c", command)
	if check, remedy := m.remedy(p); check != "" {
		m.t.Errorf("after %s doctor names %s (%s)", command, check, remedy)
	}
}
