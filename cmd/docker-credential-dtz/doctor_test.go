package main

import (
	"cmp"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

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
	p.docker(`{"auths": {"REGISTRY": {}, "ghcr.io": ` + auth + `}, "credHelpers": {"ghcr.io": "pass", "REGISTRY": "dtz", "http://REGISTRY": "pass"}}`)
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
	if o.code != exitOK || len(findings) != 19 {
		t.Errorf("%d checks, exit code %d, want 19 and 0", len(findings), o.code)
	}
	if o := p.run("", "doctor"); o.code != exitOK || !strings.HasSuffix(o.stdout, "\n\n19 checks, all good\n") || strings.ContainsAny(o.stdout, "\x1b✓") {
		t.Errorf("doctor: %+v", o)
	}
}

// Where there is podman and no Docker, that is no problem; only where podman is
// told not to look is it one.
func TestDoctorOnPodmanAlone(t *testing.T) {
	testenv.Need(t, "keychain")
	t.Parallel()
	p := newPatient(t)
	if err := os.Remove(filepath.Join(p.home, ".docker/config.json")); err != nil {
		t.Fatal(err)
	}
	p.must("", "configure", "--podman", "--registry", p.registry.address)
	findings, o := p.examine()
	for _, f := range findings {
		if want := map[bool]doctor.State{false: doctor.OK, true: doctor.Skipped}[f.Check == "wiring"]; f.State != want {
			t.Errorf("%+v, want %s", f, want)
		}
	}
	if o.code != exitOK {
		t.Errorf("exit code %d", o.code)
	}
	if o := p.run("", "status"); o.code != exitOK || strings.Contains(o.stdout, "does not ask") {
		t.Errorf("status: %+v", o)
	}

	p.setenv("DOCKER_CONFIG", filepath.Dir(p.write("elsewhere/config.json", "{}", 0o600)))
	findings, o = p.examine()
	i := slices.IndexFunc(findings, func(f doctor.Finding) bool { return f.Check == "podman" })
	if f := findings[i]; f.State != doctor.Warning || !strings.Contains(f.Saw, "podman 4.4, buildah 1.29 and newer look into DOCKER_CONFIG only") || !strings.Contains(f.Remedy, " configure --registry ") {
		t.Errorf("with DOCKER_CONFIG: %+v", f)
	}
	if o.code != exitFailure {
		t.Errorf("exit code %d, and Docker does not ask", o.code)
	}
}

// A secret under auths is used where credHelpers names nobody. There, docker
// login would write it again.
func TestDoctorOnASecretThatIsUsed(t *testing.T) {
	testenv.Need(t, "keychain")
	t.Parallel()
	p := newPatient(t)
	p.docker(`{"auths": {"REGISTRY": ` + auth + `}}`)
	findings, _ := p.examine()
	i := slices.IndexFunc(findings, func(f doctor.Finding) bool { return f.Check == "plaintext" })
	if f := findings[i]; f.State != doctor.Warning || !strings.Contains(f.Saw, "; Docker uses it") || !strings.HasPrefix(f.Remedy, "take the entry") {
		t.Errorf("%+v", f)
	}
}

// doctor looks where configure --podman writes, and where podman looks first.
func TestDoctorsPodmanFiles(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere there is one file")
	}
	env := map[string]string{"HOME": "/home/alice"}
	sys := system{lookup: func(name string) (string, bool) { value, set := env[name]; return value, set }}
	want := []string{fmt.Sprintf("/run/containers/%d/auth.json", os.Getuid()), "/home/alice/.config/containers/auth.json"}
	if got := sys.doctorsWorld().Podman; !slices.Equal(got, want) {
		t.Errorf("podman's files are %q, want %q", got, want)
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

// In WSL, Docker can be made to ask the program in Windows, whose login is none
// of ours to judge.
func TestDoctorLeavesWindowsToItself(t *testing.T) {
	testenv.Need(t, "keychain")
	t.Parallel()
	p := newPatient(t)
	p.docker(`{"credHelpers": {"REGISTRY": "dtz.exe"}}`)
	p.write("windows/docker-credential-dtz.exe", "", 0o700)
	p.path(ours, "windows")
	findings, o := p.examine()
	var left []string
	for _, f := range findings {
		switch {
		case f.State == doctor.Skipped:
			left = append(left, f.Check)
			if f.Address != "" && !strings.Contains(f.Saw, `run "docker-credential-dtz.exe doctor"`) {
				t.Errorf("%+v, want that it names who looks at it", f)
			}
		case f.State != doctor.OK, f.Check == "wiring" && !strings.Contains(f.Saw, "in Windows"):
			t.Errorf("%+v", f)
		}
	}
	if got, want := strings.Join(left, " "), "identity clock login role registry service"; got != want || o.code != exitOK {
		t.Errorf("not looked at: %s, exit code %d, want %s and 0", got, o.code, want)
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
