//go:build linux

package faults

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// disk is a small disk of its own under a machine's home folder.
type disk struct {
	t    *testing.T
	home string
}

// newDisk needs root, who may mount.
func newDisk(t *testing.T, m *Machine) disk {
	t.Helper()
	docker, err := os.ReadFile(m.DockerConfig())
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", m.Home, "tmpfs", 0, "size=1m,mode=700"); err != nil {
		t.Skipf("a file system cannot be mounted: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(m.Home, unix.MNT_DETACH) })
	if err := os.Mkdir(filepath.Dir(m.DockerConfig()), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.DockerConfig(), docker, 0o600); err != nil {
		t.Fatal(err)
	}
	return disk{t, m.Home}
}

func (d disk) ballast() string { return filepath.Join(d.home, "ballast") }

// fill leaves no room for a single byte.
func (d disk) fill() {
	d.t.Helper()
	f, err := os.Create(d.ballast())
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, os.Getpagesize()))
	}
}

func (d disk) empty() { _ = os.Remove(d.ballast()) }

func (d disk) remount(flags uintptr) {
	d.t.Helper()
	if err := unix.Mount("none", d.home, "tmpfs", unix.MS_REMOUNT|flags, ""); err != nil {
		d.t.Fatal(err)
	}
}

// diskFaults are ways in which a disk cannot be written, and how each is said.
var diskFaults = []struct {
	name       string
	begin, end func(disk)
	said       string
}{
	{"full", disk.fill, disk.empty, "no space left on device"},
	{
		"read-only", func(d disk) { d.remount(unix.MS_RDONLY) }, func(d disk) { d.remount(0) },
		"read-only file system",
	},
}

// diskStores are where a login can lie.
var diskStores = []struct {
	name     string
	keychain bool
	flags    []string
}{
	{"keychain", true, nil},
	{"file", false, []string{"--insecure-storage"}},
}

// eachDisk tries f with each store on each disk that cannot be written.
func eachDisk(t *testing.T, f func(t *testing.T, s *Service, m *Machine, flags []string, begin, end func(), said string)) {
	t.Helper()
	for _, st := range diskStores {
		for _, fault := range diskFaults {
			t.Run(st.name+", disk "+fault.name, func(t *testing.T) {
				t.Parallel()
				var keychain map[string]string
				if st.keychain {
					keychain = testenv.Keychain(t)
				}
				s := NewService(t)
				m := NewMachineWith(t, s, keychain)
				m.Setenv("DTZ_TIMEOUT", "30s") // for a busy machine
				d := newDisk(t, m)
				f(t, s, m, st.flags, func() { fault.begin(d) }, func() { fault.end(d) }, fault.said)
			})
		}
	}
}

// A renewal that cannot be written down serves all the same, and the login is
// as it was.
func TestGetAnswersOnADiskThatCannotBeWritten(t *testing.T) {
	eachDisk(t, func(t *testing.T, s *Service, m *Machine, flags []string, begin, end func(), said string) {
		m.Login(flags...)
		m.Age(almostADay)
		before, calls := m.tokens(), s.Calls("/token/refresh")
		begin()
		secret, o := m.Get()
		if secret == "" || s.Calls("/token/refresh") != calls+1 {
			t.Errorf("get: exit code %d, %d renewals; it says %q", o.Code, s.Calls("/token/refresh")-calls, o.Stderr)
		}
		switch kept := m.tokens(); {
		case flags == nil: // the keychain is on another disk
			if kept[Context] != fingerprint(secret) || o.Stderr != "" {
				t.Errorf("the token was not kept in the keychain; get says %q", o.Stderr)
			}
		case !maps.Equal(kept, before):
			t.Errorf("the kept tokens are %v, were %v", kept, before)
		case !strings.Contains(o.Stderr, said) || !strings.Contains(o.Stderr, loginsDir(m)) || strings.Count(o.Stderr, "\n") != 1:
			t.Errorf("get says %q, want the file and %q", o.Stderr, said)
		}
		end()
		if secret, o := m.Get(); secret == "" || o.Stderr != "" {
			t.Errorf("with room again, get says %q", o.Stderr)
		}
		if left := m.Leftovers(); len(left) != 0 {
			t.Errorf("left behind: %q", left)
		}
	})
}

// So does one that an API key of the environment was exchanged for.
func TestAPIKeyServesOnADiskThatCannotBeWritten(t *testing.T) {
	eachDisk(t, func(t *testing.T, s *Service, m *Machine, _ []string, begin, end func(), said string) {
		key, err := s.Identity.CreateKey(Subject, Context, "pipeline")
		if err != nil {
			t.Fatal(err)
		}
		m.Setenv("DTZ_API_KEY", key)
		m.Setenv("DTZ_REGISTRIES", Registry)
		if secret, o := m.Get(); secret == "" { // which makes the folder
			t.Fatal(o.Stderr)
		}
		m.Age(almostADay)
		begin()
		secret, o := m.Get()
		if secret == "" {
			t.Errorf("get says %q", o.Stderr)
		}
		if o.Stderr != "" && (!strings.Contains(o.Stderr, said) || strings.Count(o.Stderr, "\n") != 1) {
			t.Errorf("get says %q", o.Stderr)
		}
		end()
		if secret, o := m.Get(); secret == "" || o.Stderr != "" {
			t.Errorf("with room again, get says %q", o.Stderr)
		}
	})
}

// What cannot be written fails, names the file, and leaves all as it was: the
// login before still serves.
func TestCommandsOnADiskThatCannotBeWritten(t *testing.T) {
	for _, tt := range []struct {
		name  string
		stdin string
		args  []string
		login bool // takes the flags of the store
	}{
		{name: "login", stdin: Password, args: []string{"login", "--registry", Registry, "--registry", "127.0.0.1:6000", "--yes", "--username", User, "--password-stdin"}, login: true},
		{name: "configure", args: []string{"configure", "--registry", "127.0.0.1:6000", "--yes"}},
		{name: "unconfigure", args: []string{"unconfigure", "--registry", Registry}},
		{name: "context use", args: []string{"context", "use", Context2, "--registry", Registry}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachDisk(t, func(t *testing.T, _ *Service, m *Machine, flags []string, begin, end func(), said string) {
				m.Login(flags...)
				args := tt.args
				if tt.login {
					args = append(args, flags...)
				}
				files, tokens := m.files(), m.tokens()
				begin()
				o := m.Run(tt.stdin, args...)
				if o.Code != 1 || !strings.Contains(o.Stderr, said) || !strings.Contains(o.Stderr, m.Home) {
					t.Errorf("exit code %d, it says %q; want the file and %q", o.Code, o.Stderr, said)
				}
				now := m.tokens()
				for contextID, token := range tokens { // context use may have got one more
					if now[contextID] != token {
						t.Errorf("the kept tokens are %v, were %v", now, tokens)
					}
				}
				if secret, o := m.Get(); secret == "" || o.Stderr != "" {
					t.Errorf("get says %q", o.Stderr)
				}
				end()
				if now := m.files(); !maps.Equal(now, files) {
					t.Errorf("the files are\n%v\nwere\n%v", now, files)
				}
				if o := m.Run(tt.stdin, args...); o.Code != 0 {
					t.Errorf("with room again: exit code %d, it says %q", o.Code, o.Stderr)
				}
				if left := m.Leftovers(); len(left) != 0 {
					t.Errorf("left behind: %q", left)
				}
			})
		})
	}
}

// files are Docker's config.json and ours, by path.
func (m *Machine) files() map[string]string {
	m.t.Helper()
	files := map[string]string{}
	for _, path := range []string{m.DockerConfig(), m.ConfigPath()} {
		data, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			m.t.Fatal(err)
		}
		files[path] = string(data)
	}
	return files
}

// A logout that cannot be written down says so, and can be repeated.
func TestLogoutOnADiskThatCannotBeWritten(t *testing.T) {
	eachDisk(t, func(t *testing.T, s *Service, m *Machine, flags []string, begin, end func(), said string) {
		m.Login(append(flags, "--keep")...)
		begin()
		o := m.Run("", "logout")
		freed := o.Code == 0 && flags != nil && len(m.tokens()) == 0 // the file that it removes may leave the room that it needs
		if !freed && (o.Code != 1 || !strings.Contains(o.Stderr, said) || !strings.Contains(o.Stderr, m.Home)) {
			t.Errorf("exit code %d, it says %q; want the file and %q", o.Code, o.Stderr, said)
		}
		end()
		if o := m.Run("", "logout"); o.Code != 0 && !freed {
			t.Errorf("with room again: exit code %d, it says %q", o.Code, o.Stderr)
		}
		if secret, o := m.Get(); secret != "" {
			t.Errorf("after logout, get answers; it says %q", o.Stderr)
		}
		if keys := s.Keys(); len(keys) != 0 {
			t.Errorf("the keys %q are left at the identity service", keys)
		}
		if left := m.Leftovers(); len(left) != 0 {
			t.Errorf("left behind: %q", left)
		}
	})
}
