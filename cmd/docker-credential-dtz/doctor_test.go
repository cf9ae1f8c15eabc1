package main

import (
	"cmp"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/doctor"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// patient is a place where all is well: a login, Docker set up, and a registry
// that takes the token.
type patient struct {
	*place
	registry *gate
}

func newPatient(t testing.TB) *patient {
	t.Helper()
	p := newPlace(t)
	g := &patient{p, p.newGate(t, httptest.NewServer)}
	g.path(ours)
	g.login(testUser)
	return g
}

func (p *patient) login(user string, flags ...string) {
	p.t.Helper()
	args := append([]string{"login", "--registry", p.registry.address, "--yes", "--username", user, "--password-stdin"}, flags...)
	if o := p.run(testPassword, args...); o.code != exitOK {
		p.t.Fatalf("login: %+v", o)
	}
}

func (p *patient) newKey() string {
	p.t.Helper()
	key, err := p.service.CreateKey("identity-alice123", "", "doctor")
	if err != nil {
		p.t.Fatal(err)
	}
	return key
}

func (p *patient) loginWithKey() (key string) {
	p.t.Helper()
	key = p.newKey()
	p.must(key, "login", "--registry", p.registry.address, "--api-key-stdin")
	return key
}

// must runs the program and fails the test if that fails.
func (p *patient) must(stdin string, args ...string) {
	p.t.Helper()
	if o := p.run(stdin, args...); o.code != exitOK {
		p.t.Fatalf("%q: %+v", args, o)
	}
}

// write puts text into a file below the home folder. REGISTRY in it is the
// registry's address.
func (p *patient) write(name, text string, mode os.FileMode) string {
	p.t.Helper()
	path := filepath.Join(p.home, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "REGISTRY", p.registry.address)), mode); err != nil {
		p.t.Fatal(err)
	}
	return path
}

func (p *patient) docker(config string) { p.write(".docker/config.json", config, 0o600) }

// ours stands for the folder of the program in [patient.path].
const ours = "PROGRAM"

// path sets PATH to folders of the home folder, and nothing else that this
// machine has.
func (p *patient) path(dirs ...string) {
	p.t.Helper()
	file, err := exec.LookPath(program)
	if err != nil {
		p.t.Fatal(err)
	}
	for i, dir := range dirs {
		if dir == ours {
			dirs[i] = filepath.Dir(file)
		} else {
			dirs[i] = filepath.Join(p.home, dir)
		}
	}
	p.setenv("PATH", strings.Join(dirs, string(os.PathListSeparator)))
}

func (p *patient) setenvs(env map[string]string) {
	for name, value := range env {
		p.setenv(name, value)
	}
}

// auth is an entry of Docker's auths with a secret in it.
const auth = `{"auth": "YmVhcmVyOmNhbmFyeQ=="}`

var ailments = []struct {
	name string
	// breaks breaks one thing.
	breaks func(*patient)
	check  string // the one check that says so
	state  doctor.State
	saw    string // part of what it saw
	remedy string // part of what mends it
	behind string // the checks that cannot be judged then
}{
	{
		"the program is not on PATH",
		func(p *patient) { p.path("bin") },
		"path", doctor.Failed, "is not on PATH", `export PATH="/`, "duplicates desktop",
	}, {
		"programs started without a shell have a shorter PATH",
		func(p *patient) {
			p.write("bin/systemctl", "#!/bin/sh\necho LANG=C\necho PATH=/usr/bin:/bin\n", 0o700)
			p.path("bin", ours)
		},
		"desktop", doctor.Warning, "look in /usr/bin:/bin only", "sudo ln -s /", "",
	}, {
		"another file of that name comes first on PATH",
		func(p *patient) {
			p.write("bin/"+program, "#!/bin/sh\necho docker-credential-dtz '(package)' 0.0.1\n", 0o700)
			p.path("bin", ours)
		},
		"duplicates", doctor.Failed, "/home/bin/docker-credential-dtz (version 0.0.1), and this one is /", "ask the other one", "",
	}, {
		"another file of that name stands behind it on PATH",
		func(p *patient) {
			p.write("bin/"+program, "#!/bin/sh\ntouch $0.was.run\n", 0o700)
			p.path(ours, "bin")
		},
		"duplicates", doctor.Warning, "behind it on PATH: ", "remove what you do not want", "",
	}, {
		"it is run by way of sudo",
		func(p *patient) { p.setenv("SUDO_USER", "alice") },
		"user", doctor.Warning, "are not those of alice", "usermod -aG docker alice", "",
	}, {
		"our config.json cannot be read",
		func(p *patient) { p.write(".config/docker-credential-dtz/config.json", "{", 0o600) },
		"settings", doctor.Failed, "config.json: ", "mend or remove that file",
		"environment docker-auth keychain identity clock login role wiring registry service",
	}, {
		"a variable's credential takes precedence",
		func(p *patient) {
			p.setenv("DTZ_API_KEY", p.newKey())
		},
		"environment", doctor.Warning, "DTZ_API_KEY takes precedence over the login of profile default", "unset DTZ_API_KEY", "",
	}, {
		"a variable is empty",
		func(p *patient) { p.setenv("DTZ_API_KEY", "") },
		"environment", doctor.Warning, "DTZ_API_KEY is set and empty", "unset DTZ_API_KEY", "",
	}, {
		"two variables contradict each other",
		func(p *patient) { p.setenv("DTZ_API_KEY", "apikey-abc12345"); p.setenv("DTZ_API_KEY_FILE", "/key") },
		"environment", doctor.Failed, "are both set", "unset one of them", "identity clock login role registry service",
	}, {
		"the variable of the identity service is no URL",
		func(p *patient) { p.setenv("DTZ_IDENTITY_URL", "http://identity.example") },
		"environment", doctor.Warning, "DTZ_IDENTITY_URL: ", "unset DTZ_IDENTITY_URL", "",
	}, {
		"Docker's config.json does not parse",
		func(p *patient) { p.docker("{\n// a comment\n}") },
		"docker", doctor.Failed, "(line 2)", "mend that with an editor", "wiring plaintext",
	}, {
		"DOCKER_CONFIG names a folder without config.json",
		func(p *patient) { p.setenv("DOCKER_CONFIG", p.home) },
		"docker", doctor.Failed, "there is no config.json in it", `run "docker-credential-dtz configure"`, "wiring plaintext",
	}, {
		"DOCKER_AUTH_CONFIG has a credential for the registry",
		func(p *patient) {
			p.setenv("DOCKER_AUTH_CONFIG", `{"auths": {"`+p.registry.address+`": `+auth+`}}`)
		},
		"docker-auth", doctor.Failed, "Docker asks no helper there", "unset DOCKER_AUTH_CONFIG", "",
	}, {
		"DOCKER_AUTH_CONFIG cannot be read",
		func(p *patient) { p.setenv("DOCKER_AUTH_CONFIG", `{"auths": {"canary": "canary"}}`) },
		"docker-auth", doctor.Warning, "cannot be read", "unset DOCKER_AUTH_CONFIG", "",
	}, {
		"Docker does not ask for the registry",
		func(p *patient) { p.docker(`{"credHelpers": {"ghcr.io": "dtz2"}}`) },
		"wiring", doctor.Failed, "Docker does not ask this program", `run "docker-credential-dtz configure --registry 127.0.0.1:`, "",
	}, {
		"the key in credHelpers has a scheme",
		func(p *patient) { p.docker(`{"credHelpers": {"http://REGISTRY": "dtz"}}`) },
		"wiring", doctor.Failed, `as "http://127.0.0.1:`, `run "docker-credential-dtz configure --registry 127.0.0.1:`, "",
	}, {
		"the key in credHelpers has a path",
		func(p *patient) { p.docker(`{"credHelpers": {"REGISTRY/v2/": "dtz"}}`) },
		"wiring", doctor.Failed, "which Docker never looks for", `run "docker-credential-dtz configure --registry 127.0.0.1:`, "",
	}, {
		"a key with a scheme stands beside the right one",
		func(p *patient) { p.docker(`{"credHelpers": {"http://REGISTRY": "dtz", "REGISTRY": "dtz"}}`) },
		"wiring", doctor.Warning, "is never looked for", "take that entry out", "",
	}, {
		"Docker asks another helper",
		func(p *patient) { p.docker(`{"credHelpers": {"REGISTRY": "pass"}}`) },
		"wiring", doctor.Failed, `uses the credential helper "pass"`, `--yes"`, "",
	}, {
		"Docker is to ask a program in Windows that is not there",
		func(p *patient) { p.docker(`{"credHelpers": {"REGISTRY": "dtz.exe"}}`) },
		"wiring", doctor.Failed, "docker-credential-dtz.exe, in Windows, which is not on PATH", `--yes"`, "identity clock login role registry service",
	}, {
		"auths holds a secret",
		func(p *patient) {
			p.docker(`{"auths": {"REGISTRY": ` + auth + `}, "credHelpers": {"REGISTRY": "dtz"}}`)
		},
		"plaintext", doctor.Warning, "unencrypted; Docker does not use it", `run "docker login 127.0.0.1:`, "",
	}, {
		"auths holds a secret under another spelling",
		func(p *patient) {
			p.docker(`{"auths": {"http://REGISTRY/v1/": ` + auth + `}, "credHelpers": {"REGISTRY": "dtz"}}`)
		},
		"plaintext", doctor.Warning, "unencrypted; Docker does not use it", `take the entry "http://127.0.0.1:`, "",
	}, {
		"podman has a secret of its own",
		func(p *patient) {
			p.write(".config/containers/auth.json", `{"auths": {"REGISTRY/team": `+auth+`}}`, 0o600)
		},
		"podman", doctor.Warning, "do not ask this program", `run "podman logout --authfile /`, "",
	}, {
		"podman asks another helper",
		func(p *patient) {
			p.write(".config/containers/auth.json", `{"credHelpers": {"REGISTRY": "pass"}}`, 0o600)
		},
		"podman", doctor.Warning, `the credential helper "pass"`, "configure --podman", "",
	}, {
		"podman's file cannot be read",
		func(p *patient) { p.write(".config/containers/auth.json", "canary", 0o600) },
		"podman", doctor.Warning, "podman's file cannot be read", "mend or remove it", "",
	}, {
		"podman looks into a file that does not name us",
		func(p *patient) { p.setenv("REGISTRY_AUTH_FILE", p.write("auth.json", "{}", 0o600)) },
		"podman", doctor.Warning, "REGISTRY_AUTH_FILE only", "unset REGISTRY_AUTH_FILE", "",
	}, {
		"there is no session bus",
		func(p *patient) { p.setenv("DBUS_SESSION_BUS_ADDRESS", ""); p.setenv("XDG_RUNTIME_DIR", p.home) },
		"keychain", doctor.Failed, "out of reach: there is no D-Bus session", "login --insecure-storage", "login role registry service",
	}, {
		"the session bus is gone",
		func(p *patient) { p.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+p.home+"/gone") },
		"keychain", doctor.Failed, "a session bus that is gone", "login --insecure-storage", "login role registry service",
	}, {
		"nobody keeps secrets on the session bus",
		func(p *patient) { p.setenvs(testenv.Bus(p.t)) },
		"keychain", doctor.Failed, "no Secret Service runs", "e.g. gnome-keyring", "login role registry service",
	}, {
		"the keychain is locked",
		func(p *patient) { p.lock() },
		"keychain", doctor.Failed, "it is locked", "on the desktop", "login role registry service",
	}, {
		"the keychain is locked, and this is SSH",
		func(p *patient) { p.lock(); p.setenv("SSH_CONNECTION", "192.0.2.1 50000 192.0.2.2 22") },
		"keychain", doctor.Failed, "it is locked", "gnome-keyring-daemon --replace --unlock", "login role registry service",
	}, {
		"the keychain's prompt is dismissed",
		func(p *patient) { p.setenvs(testenv.Prompting(p.t, true)) },
		"keychain", doctor.Failed, "was its prompt dismissed?", "instead of closing it", "login role registry service",
	}, {
		"nobody answers the keychain's prompt",
		func(p *patient) { p.setenvs(testenv.Prompting(p.t, false)) },
		"keychain", doctor.Failed, "did not answer in time", "answer its prompt", "login role registry service",
	}, {
		"the identity service cannot be connected to",
		func(p *patient) { p.server.Close() },
		"identity", doctor.Failed, "connection refused", "check the network", "clock",
	}, {
		"the identity service is out of order",
		func(p *patient) { p.fault.mustSet("answers", "503") },
		"identity", doctor.Failed, "answers 503 Service Unavailable", "try again later", "clock",
	}, {
		"the identity service is away, and the token has ended",
		func(p *patient) { p.loginWithKey(); p.moveClock(25 * time.Hour); p.server.Close() },
		"identity", doctor.Failed, "connection refused", "check the network", "clock login role registry service",
	}, {
		"the clock is ten minutes ahead",
		func(p *patient) { p.setenv("DTZ_TEST_CLOCK", p.write("clock", "10m30s", 0o600)) },
		"clock", doctor.Failed, "the clock is 10 minutes ahead", "timedatectl", "",
	}, {
		"the clock is ten minutes behind",
		func(p *patient) { p.setenv("DTZ_TEST_CLOCK", p.write("clock", "-10m30s", 0o600)) },
		"clock", doctor.Failed, "the clock is 10 minutes behind", "timedatectl", "",
	}, {
		"nobody is logged in",
		func(p *patient) { p.must("", "logout") },
		"login", doctor.Failed, "no login serves it", `run "docker-credential-dtz login --registry 127.0.0.1:`, "identity clock role registry service",
	}, {
		"the login has expired",
		func(p *patient) { p.moveClock(25 * time.Hour) },
		"login", doctor.Failed, "login expired", `run "docker-credential-dtz login --registry 127.0.0.1:`, "role registry service",
	}, {
		"the identity service refuses the login's key",
		func(p *patient) {
			key := p.loginWithKey()
			p.moveClock(25 * time.Hour)
			if err := p.service.DeleteKey(key); err != nil {
				p.t.Fatal(err)
			}
		},
		"login", doctor.Failed, "refused by the identity service", `run "docker-credential-dtz login --registry 127.0.0.1:`, "role registry service",
	}, {
		"the identity service will not renew the login",
		func(p *patient) { p.moveClock(7 * time.Hour); p.service.RevokeSessions("identity-alice123") },
		"login", doctor.Warning, "was not renewed: login refused", "docker-credential-dtz login", "",
	}, {
		"the role is missing",
		func(p *patient) { p.login("bob@example.com") },
		"role", doctor.Failed, "lacks the role https://dtz.rocks/containerregistry/admin/context-bob12345", "context list", "service",
	}, {
		"the registry cannot be connected to",
		func(p *patient) { p.registry.server.Close() },
		"registry", doctor.Failed, "connection refused", "curl -v http://127.0.0.1:", "service",
	}, {
		"the registry refuses the token",
		func(p *patient) {
			other, err := identity.New(identity.Config{})
			if err != nil {
				p.t.Fatal(err)
			}
			p.registry.trust(p.t, other)
		},
		"registry", doctor.Failed, "it refuses the token: ", "docker-credential-dtz login", "service",
	}, {
		"the service is not enabled",
		func(p *patient) { p.registry.closed.Store(true) },
		"service", doctor.Failed, "not enabled for context-abc12345: ", "/api/2023-12-28/enable", "",
	},
}

// lock gives the patient another keychain, which is locked.
func (p *patient) lock() {
	env := testenv.Keychain(p.t)
	testenv.LockKeychain(p.t, env)
	p.setenvs(env)
}

// Each breaks one thing; doctor names that, and nothing else.
func TestDoctorNamesWhatIsBroken(t *testing.T) {
	testenv.Need(t, "keychain")
	for _, tt := range ailments {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPatient(t)
			tt.breaks(p)
			findings, o := p.examine()
			var behind []string
			named := false
			for _, f := range findings {
				switch {
				case f.Check == tt.check:
					named = true
					if f.State != tt.state || !strings.Contains(f.Saw, tt.saw) || !strings.Contains(f.Remedy, tt.remedy) {
						t.Errorf("it says %+v, want %s, that it saw %q, and as remedy %q", f, tt.state, tt.saw, tt.remedy)
					}
				case f.State == doctor.Skipped:
					behind = append(behind, f.Check)
				case f.State != doctor.OK:
					t.Errorf("it names %+v, too", f)
				}
			}
			if !named {
				t.Errorf("no check is called %s", tt.check)
			}
			if got := strings.Join(behind, " "); got != tt.behind {
				t.Errorf("not looked at: %s, want %s", got, tt.behind)
			}
			if want := map[doctor.State]int{doctor.Failed: exitFailure, doctor.Warning: exitOK}[tt.state]; o.code != want {
				t.Errorf("exit code %d, want %d", o.code, want)
			}
			if _, err := os.Stat(filepath.Join(p.home, "bin", program+".was.run")); err == nil {
				t.Error("it runs what Docker would not run")
			}
			if strings.Contains(o.stdout, "canary") || strings.Contains(o.stdout, "YmVhcm") {
				t.Errorf("a secret is shown: %s", o.stdout)
			}
		})
	}
}

// examine runs doctor and reads its JSON.
func (p *patient) examine(flags ...string) ([]doctor.Finding, outcome) {
	p.t.Helper()
	o := p.run("", append([]string{"doctor", "--output", "json"}, flags...)...)
	var findings []doctor.Finding
	if err := json.Unmarshal([]byte(o.stdout), &findings); err != nil || o.stderr != "" {
		p.t.Fatalf("doctor: %v: %+v", err, o)
	}
	return findings, o
}

func TestDoctorFindsAWellMachineWell(t *testing.T) {
	testenv.Need(t, "keychain")
	t.Parallel()
	p := newPatient(t)
	// None of these is of any matter to Docker.
	p.docker(`{"auths": {"REGISTRY": {}, "ghcr.io": ` + auth + `}, "credHelpers": {"ghcr.io": "pass", "REGISTRY": "dtz"}}`)
	p.setenv("DOCKER_AUTH_CONFIG", `{"auths": {"ghcr.io": `+auth+`}}`)
	p.write(".config/containers/auth.json", `{"credHelpers": {"REGISTRY": "dtz"}, "auths": {"REGISTRY": `+auth+`}}`, 0o600)
	p.write("bin/docker-credential-dtz", "not a program", 0o600)
	p.path("bin", ours)
	findings, o := p.examine()
	for _, f := range findings {
		if f.State != doctor.OK {
			t.Errorf("%+v", f)
		}
	}
	if o.code != exitOK || len(findings) != 18 {
		t.Errorf("%d checks, exit code %d, want 18 and 0", len(findings), o.code)
	}
	if o := p.run("", "doctor"); o.code != exitOK || !strings.HasSuffix(o.stdout, "\n\n18 checks, all good\n") || strings.ContainsAny(o.stdout, "\x1b✓") {
		t.Errorf("doctor: %+v", o)
	}
}

// What is trusted is said by SSL_CERT_FILE, to the identity service and to the
// registry by itself.
func TestDoctorOnCertificates(t *testing.T) {
	testenv.Need(t, "keychain")
	t.Parallel()
	p := newPlace(t)
	overTLS := func(h http.Handler) *httptest.Server {
		s := httptest.NewUnstartedServer(h)
		s.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail
		s.StartTLS()
		return s
	}
	service := overTLS(p.service)
	t.Cleanup(service.Close)
	g := &patient{p, p.newGate(t, overTLS)} // with the same certificate
	g.path(ours)
	authority := g.write("ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: service.Certificate().Raw})), 0o600)
	p.setenv("DTZ_IDENTITY_URL", service.URL+identity.BasePath)
	p.setenv("SSL_CERT_FILE", authority)
	g.login(testUser)
	if findings, o := g.examine(); o.code != exitOK {
		t.Fatalf("with SSL_CERT_FILE: %+v", findings)
	}
	p.setenv("SSL_CERT_FILE", "")
	findings, o := g.examine()
	states := map[string]doctor.State{"identity": doctor.Failed, "clock": doctor.Skipped, "registry": doctor.Failed, "service": doctor.Skipped}
	for _, f := range findings {
		if want := cmp.Or(states[f.Check], doctor.OK); f.State != want {
			t.Errorf("%+v, want %s", f, want)
		}
		if f.State == doctor.Failed && (!strings.Contains(f.Saw, "certificate") || !strings.Contains(f.Remedy, "SSL_CERT_FILE")) {
			t.Errorf("%+v, want that it says what mends it", f)
		}
	}
	if o.code != exitFailure {
		t.Errorf("exit code %d, want %d", o.code, exitFailure)
	}
}

func TestDoctorOnOneOfSeveral(t *testing.T) {
	testenv.Need(t, "keychain")
	t.Parallel()
	p := newPatient(t)
	other := p.newGate(t, httptest.NewServer)
	p.must(testPassword, "login", "--registry", other.address, "--profile", "bob", "--yes", "--username", "bob@example.com", "--password-stdin")
	looked := func(flags ...string) (registries []string, roles []doctor.State) {
		findings, _ := p.examine(flags...)
		for _, f := range findings {
			if f.Check == "role" {
				registries, roles = append(registries, f.Address.String()), append(roles, f.State)
			}
		}
		return registries, roles
	}
	both := []string{p.registry.address, other.address}
	slices.Sort(both)
	if got, _ := looked(); !slices.Equal(got, both) {
		t.Errorf("looked at %q, want %q", got, both)
	}
	p.setenv("DTZ_API_KEY", p.newKey()) // alice's
	for _, tt := range []struct {
		flags []string
		role  doctor.State // alice has it, bob has not
	}{
		{[]string{"--registry", other.address}, doctor.OK},
		{[]string{"--profile", "bob"}, doctor.Failed},
	} {
		if got, roles := looked(tt.flags...); !slices.Equal(got, []string{other.address}) || roles[0] != tt.role {
			t.Errorf("%q: looked at %q, role %q, want %s, %s", tt.flags, got, roles, other.address, tt.role)
		}
	}
}
