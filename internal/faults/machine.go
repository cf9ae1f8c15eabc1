package faults

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// Registry is the address that [Machine.Login] logs in for. Nobody has to listen
// there.
const Registry = "127.0.0.1:5000"

// Machine is one user's computer.
type Machine struct {
	// Home is the home folder, with Docker's config.json below it.
	Home string
	// Temp is the temporary folder, TMPDIR.
	Temp string

	t    testing.TB
	env  map[string]string
	main string // folder of everything
}

// NewMachine is a machine with a keychain of its own that logs in at s. Without
// a keychain to be had, t is skipped.
func NewMachine(t testing.TB, s *Service) *Machine {
	t.Helper()
	return NewMachineWith(t, s, testenv.Keychain(t))
}

// NewMachineWith is a machine that finds its keychain by the environment given,
// as testenv has it: nil is none.
func NewMachineWith(t testing.TB, s *Service, keychain map[string]string) *Machine {
	t.Helper()
	m := &Machine{t: t, main: t.TempDir()}
	m.Home, m.Temp = filepath.Join(m.main, "home"), filepath.Join(m.main, "tmp")
	runtime := filepath.Join(m.main, "run")
	for _, dir := range []string{m.Home, m.Temp, runtime, filepath.Join(m.Home, ".docker")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(m.DockerConfig(), []byte("{\n\t\"auths\": {}\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.env = map[string]string{
		"PATH": filepath.Dir(Program(t)) + string(filepath.ListSeparator) + os.Getenv("PATH"),
		"HOME": m.Home, "TMPDIR": m.Temp, "XDG_RUNTIME_DIR": runtime,
		"DTZ_IDENTITY_URL": s.URL(),
		// Nothing leaves this machine: only what is on loopback is reached without it.
		"HTTPS_PROXY": "http://127.0.0.1:1",
	}
	maps.Copy(m.env, keychain)
	return m
}

// DockerConfig is the path of Docker's config.json.
func (m *Machine) DockerConfig() string { return filepath.Join(m.Home, ".docker", "config.json") }

// ConfigPath is the path of our own config.json, the bindings.
func (m *Machine) ConfigPath() string {
	return filepath.Join(m.Home, ".config", program, "config.json")
}

// StateDir is the folder of locks and sealed files.
func (m *Machine) StateDir() string {
	return filepath.Join(m.Home, ".local", "state", program)
}

// Setenv sets a variable of every process that starts from now on.
func (m *Machine) Setenv(name, value string) { m.env[name] = value }

// Unsetenv removes one.
func (m *Machine) Unsetenv(name string) { delete(m.env, name) }

func (m *Machine) environ() []string {
	list := make([]string, 0, len(m.env))
	for name, value := range m.env {
		list = append(list, name+"="+value)
	}
	return list
}

// Login logs alice in for [Registry], by password and with more flags. It fails
// the test unless that works.
func (m *Machine) Login(flags ...string) {
	m.t.Helper()
	args := append([]string{"login", "--registry", Registry, "--yes", "--username", User, "--password-stdin"}, flags...)
	if o := m.Run(Password, args...); o.Code != 0 {
		m.t.Fatalf("%q: exit code %d\n%s%s", args, o.Code, o.Stdout, o.Stderr)
	}
}

// Get is what Docker asks the helper before it talks to [Registry]. The secret
// is "" where there was no answer.
func (m *Machine) Get() (secret string, o Outcome) {
	m.t.Helper()
	o = m.Run(Registry, "get")
	return o.Secret(), o
}

// Secret is what get answered, "" if it did not.
func (o Outcome) Secret() string {
	var answer struct{ Secret string }
	if o.Code != 0 || json.Unmarshal([]byte(o.Stdout), &answer) != nil {
		return ""
	}
	return answer.Secret
}

// Age makes every kept token older by d: those of all logins, and the one that
// DTZ_API_KEY was exchanged for.
func (m *Machine) Age(d time.Duration) {
	m.t.Helper()
	m.errand("age", d.String())
}
