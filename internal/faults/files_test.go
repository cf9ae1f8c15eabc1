//go:build linux

package faults

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// newFileMachine is a machine that keeps its login in a file.
func newFileMachine(t *testing.T) (*Service, *Machine) {
	t.Helper()
	s := NewService(t)
	m := NewMachineWith(t, s, nil)
	m.Setenv("DTZ_TIMEOUT", "5s")
	return s, m
}

// A victim is a file that nothing may happen to.
type victim struct {
	path string
	info fs.FileInfo
	data string
}

func newVictim(t *testing.T) victim {
	t.Helper()
	path := filepath.Join(t.TempDir(), "victim")
	v := victim{path: path, data: "a diary\n"}
	err := os.WriteFile(path, []byte(v.data), 0o640)
	if err == nil {
		err = os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour))
	}
	if err == nil {
		v.info, err = os.Stat(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (v victim) check(t *testing.T) {
	t.Helper()
	data, err := os.ReadFile(v.path)
	if err != nil || string(data) != v.data {
		t.Errorf("the victim's file holds %q, %v", data, err)
	}
	info, err := os.Stat(v.path)
	if err != nil || info.Mode() != v.info.Mode() || !info.ModTime().Equal(v.info.ModTime()) {
		t.Errorf("the victim's file has changed: %v, %v", info, err)
	}
	entries, err := os.ReadDir(filepath.Dir(v.path))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the victim's file: %v, %v", entries, err)
	}
}

// plants are what somebody may have put under a name that is ours.
var plants = []struct {
	name  string
	plant func(path string, v victim) error
}{
	{"a link to a victim's file", func(path string, v victim) error { return os.Symlink(v.path, path) }},
	{"a link to a name that is free", func(path string, v victim) error { return os.Symlink(v.path+"2", path) }},
	{"a link to a file without end", func(path string, _ victim) error { return os.Symlink("/dev/zero", path) }},
	{"a link to itself", func(path string, _ victim) error { return os.Symlink(path, path) }},
	{"a named pipe", func(path string, _ victim) error { return syscall.Mkfifo(path, 0o600) }},
	{"a folder", func(path string, _ victim) error { return os.Mkdir(path, 0o700) }},
	{"a hard link to a victim's file", func(path string, v victim) error { return os.Link(v.path, path) }},
}

// What lies in the place of a lock, a note, a login or a sealed file is neither
// followed, nor waited for, nor read without end. Get answers where the file is
// a convenience, and names it where it is the login.
func TestNothingPlantedIsFollowed(t *testing.T) {
	places := []struct {
		name    string
		pattern string // below the state folder
		key     bool   // DTZ_API_KEY is set
		is      string // what get names; "" where it answers
	}{
		{"lock", "locks/*.lock", false, ""},
		{"note of a failure", "locks/*.failure", false, ""},
		{"login", "logins/*.json", false, ".json"},
		{"lock of an API key", "apikeys/*.lock", true, ""},
		{"sealed token of an API key", "apikeys/*.sealed", true, ""},
	}
	for _, place := range places {
		t.Run(place.name, func(t *testing.T) {
			t.Parallel()
			s, m := newFileMachine(t)
			m.Login("--insecure-storage")
			if place.key {
				key, err := s.Identity.CreateKey(Subject, Context, "for a pipeline")
				if err != nil {
					t.Fatal(err)
				}
				m.Setenv("DTZ_API_KEY", key)
			}
			for _, p := range plants {
				m.Age(2 * time.Hour) // so that it is renewed
				if secret, o := m.Get(); secret == "" {
					t.Fatalf("%s: get says %q before", p.name, o.Stderr)
				}
				path := m.under(t, place.pattern)
				m.Age(2 * time.Hour)
				v := newVictim(t)
				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
				if err := p.plant(path, v); err != nil {
					t.Fatal(err)
				}
				secret, o := m.Get()
				v.check(t)
				if o.Took > hangLimit+scheduling {
					t.Errorf("%s: get took %v", p.name, o.Took)
				}
				if place.is == "" && secret == "" {
					t.Errorf("%s: get says %q, want an answer", p.name, o.Stderr)
				}
				if place.is != "" && (secret != "" || strings.Count(o.Stderr, "\n") != 1 || !strings.Contains(o.Stderr, place.is)) {
					t.Errorf("%s: get says %q and answers %t, want a line that names the file", p.name, o.Stderr, secret != "")
				}
				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
				if place.is != "" {
					m.Login("--insecure-storage")
				}
			}
		})
	}
}

// under is the one file below the state folder that the pattern fits, or where
// it would be.
func (m *Machine) under(t *testing.T, pattern string) string {
	t.Helper()
	pattern = filepath.Join(m.StateDir(), pattern)
	found, err := filepath.Glob(pattern)
	if err == nil && len(found) == 0 { // a note, beside its lock
		found, err = filepath.Glob(strings.TrimSuffix(pattern, filepath.Ext(pattern)) + ".lock")
		for i := range found {
			found[i] = strings.TrimSuffix(found[i], ".lock") + filepath.Ext(pattern)
		}
	}
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: %v, %v", pattern, found, err)
	}
	return found[0]
}

// A logout waits for its turn, and so cannot do without the lock.
func TestLogoutNamesALinkInTheLocksPlace(t *testing.T) {
	_, m := newFileMachine(t)
	m.Login("--insecure-storage")
	path := m.under(t, "locks/*.lock")
	v := newVictim(t)
	if err := errors.Join(os.Remove(path), os.Symlink(v.path, path)); err != nil {
		t.Fatal(err)
	}
	o := m.Run("", "logout")
	line, hint, _ := strings.Cut(o.Stderr, "\n")
	if o.Code != 1 || !strings.HasSuffix(line, ": "+path+" is a link; if it is not yours, remove it") || strings.Contains(hint, "written") {
		t.Errorf("logout ends with %d and says %q", o.Code, o.Stderr)
	}
	v.check(t)
}

// Our config.json says who gets a token. One that others can have written is
// refused, whatever it says; a link of the user's own goes on working.
func TestBindingsThatOthersCanHaveWritten(t *testing.T) {
	_, m := newFileMachine(t)
	m.Login("--insecure-storage")
	path := m.ConfigPath()
	mine, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		make    func() error
		refused string // what get names; "": it answers
	}{
		{"readable by others", func() error { return os.Chmod(path, 0o644) }, ""},
		{"writable by others", func() error { return os.Chmod(path, 0o666) }, "can be changed by others (mode 0666)"},
		{"its owner's again", func() error { return os.Chmod(path, 0o600) }, ""},
		{"a link among the user's dotfiles", func() error {
			target := filepath.Join(m.Home, "dotfiles.json")
			return errors.Join(os.Rename(path, target), os.Symlink(target, path))
		}, ""},
		{"a named pipe", func() error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) }, "is not a regular file"},
		{"a device", func() error { return errors.Join(os.Remove(path), os.Symlink("/dev/zero", path)) }, "is not a regular file"},
		{"a folder", func() error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }, "is not a regular file"},
		{"a file again", func() error { return errors.Join(os.Remove(path), os.WriteFile(path, mine, 0o600)) }, ""},
	} {
		if err := tt.make(); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		secret, o := m.Get()
		if (secret != "") != (tt.refused == "") {
			t.Errorf("%s: get answers %t", tt.name, secret != "")
		}
		if tt.refused == "" {
			continue
		}
		if !strings.Contains(o.Stderr, path+" "+tt.refused) || strings.Count(o.Stderr, "\n") != 1 {
			t.Errorf("%s: get says %q, want %q", tt.name, o.Stderr, tt.refused)
		}
		if o.Stderr != program+": "+o.Stdout { // "not found" would be Docker's leave to go on without a credential
			t.Errorf("%s: get tells Docker %q", tt.name, o.Stdout)
		}
		before, _ := os.Stat(path)
		o = m.Run(Password, "login", "--registry", Registry, "--yes", "--username", User, "--password-stdin", "--insecure-storage")
		after, _ := os.Stat(path)
		if o.Code != 1 || !strings.Contains(o.Stderr, tt.refused) || !strings.Contains(o.Stderr, "\nhint: ") || !os.SameFile(before, after) {
			t.Errorf("%s: login ends with %d and says %q", tt.name, o.Code, o.Stderr)
		}
	}
}

const nobody = 65534

// as runs the helper as another user. Only root can.
func (m *Machine) as(t *testing.T, uid uint32, stdin string, args ...string) Outcome {
	t.Helper()
	cmd := exec.Command(m.program(t), args...)
	cmd.Env, cmd.Dir, cmd.Stdin = m.environ(), "/", strings.NewReader(stdin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return Outcome{Code: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}
}

// program is a copy of the helper that every user can run.
func (m *Machine) program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(m.main, program)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	data, err := os.ReadFile(Program(t))
	if err == nil {
		err = os.WriteFile(path, data, 0o755)
	}
	if err == nil {
		err = errors.Join(os.Chmod(m.main, 0o755), os.Chmod(filepath.Dir(m.main), 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// own gives everything of the machine's to a user.
func (m *Machine) own(t *testing.T, uid int) {
	t.Helper()
	err := filepath.WalkDir(m.main, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, uid, uid))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A file or link of another user's is refused where it would decide who gets a
// token, or be changed in another's place.
func TestFilesOfAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can be two users")
	}
	_, m := newFileMachine(t)
	m.program(t)
	m.own(t, nobody)
	login := []string{"login", "--registry", Registry, "--yes", "--username", User, "--password-stdin", "--insecure-storage"}
	if o := m.as(t, nobody, Password, login...); o.Code != 0 {
		t.Fatalf("login: %s", o.Stderr)
	}
	const another = 12345
	chown := func(path string, mode fs.FileMode, uid, gid int) {
		t.Helper()
		if err := errors.Join(os.Lchown(path, uid, gid), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(what string, want ...string) {
		t.Helper()
		o := m.as(t, nobody, "cr.dtz.rocks", "get")
		for _, part := range want {
			if o.Code != 1 || !strings.Contains(o.Stderr, part) {
				t.Errorf("%s: get ends with %d and says %q, want %q", what, o.Code, o.Stderr, part)
			}
		}
	}
	config := m.ConfigPath()
	chown(config, 0o644, another, nobody)
	refused("another's bindings", config+" belongs to another user (uid 12345)", "HOME")
	chown(config, 0o664, nobody, another)
	refused("bindings that a group can write", config+" can be changed by its group (mode 0664)", "chmod go-w "+config, "or let XDG_CONFIG_HOME name another folder")
	chown(config, 0o600, another, another)
	refused("bindings that cannot be read", "permission denied", "HOME", "or let XDG_CONFIG_HOME name another folder")
	chown(config, 0o644, 0, 0)
	if o := m.as(t, nobody, Registry, "get"); o.Code != 0 {
		t.Errorf("bindings of root's: get says %q", o.Stderr)
	}

	// Docker's file behind a link that somebody else has planted.
	docker := m.DockerConfig()
	v := newVictim(t)
	if err := errors.Join(os.Remove(docker), os.Symlink(v.path, docker)); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(docker, another, another); err != nil {
		t.Fatal(err)
	}
	o := m.as(t, nobody, "", "configure", "--registry", Registry, "--yes")
	if o.Code != 1 || !strings.Contains(o.Stderr, docker) || !strings.Contains(o.Stderr, "link that belongs to another user") {
		t.Errorf("configure ends with %d and says %q", o.Code, o.Stderr)
	}
	v.check(t)
}

// Under sudo that leaves HOME as it was, root renews the user's login, and the
// user can use it afterwards.
func TestRootLeavesAUsersFilesTheUsers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can be two users")
	}
	_, m := newFileMachine(t)
	m.program(t)
	m.own(t, nobody)
	m.Login("--insecure-storage")
	m.Age(2 * time.Hour)
	if secret, o := m.Get(); secret == "" || o.Stderr != "" {
		t.Fatalf("root's get says %q", o.Stderr)
	}
	err := filepath.WalkDir(m.Home, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if owner := info.Sys().(*syscall.Stat_t).Uid; owner != nobody {
			t.Errorf("%s belongs to uid %d", path, owner)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if o := m.as(t, nobody, Registry, "get"); o.Code != 0 || o.Stderr != "" {
		t.Errorf("the user's get ends with %d and says %q", o.Code, o.Stderr)
	}
}

// Where there is no home folder, an API key's token is kept in a folder that
// nobody else can have made, or nowhere.
func TestCacheFolderOfAnother(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can be two users")
	}
	s, m := newFileMachine(t)
	m.program(t)
	m.own(t, nobody)
	key, err := s.Identity.CreateKey(Subject, Context, "for a pipeline")
	if err != nil {
		t.Fatal(err)
	}
	m.Setenv("HOME", "/dev/null")
	m.Setenv("DTZ_API_KEY", key)
	m.Setenv("DTZ_REGISTRIES", Registry)
	runtime := filepath.Join(m.main, "run")
	if err := errors.Join(os.Chown(runtime, 0, 0), os.Chmod(runtime, 0o777), os.Chmod(m.Temp, 0o777|fs.ModeSticky), os.Chown(m.Temp, 0, 0)); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(m.Temp, program+"-65534")
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	for _, tt := range []struct {
		name  string
		make  func() error
		calls int // that two gets make
	}{
		{"another's, open to all", func() error { return errors.Join(os.Mkdir(dir, 0o777), os.Chmod(dir, 0o777)) }, 2},
		{"another's, closed", func() error { return os.Mkdir(dir, 0o700) }, 2},
		{"a link to a folder of the user's own", func() error {
			return errors.Join(os.Mkdir(elsewhere, 0o700), os.Chown(elsewhere, nobody, nobody), os.Symlink(elsewhere, dir))
		}, 2},
		{"the user's, open to a group", func() error {
			return errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o770), os.Chown(dir, nobody, nobody))
		}, 2},
		{"a file", func() error { return os.WriteFile(dir, nil, 0o666) }, 2},
		{"none yet", func() error { return nil }, 1},
	} {
		if err := errors.Join(os.RemoveAll(dir), tt.make()); err != nil {
			t.Fatal(err)
		}
		before := s.Calls("/auth/apikey")
		for range 2 {
			if o := m.as(t, nobody, Registry, "get"); o.Code != 0 || o.Stderr != "" {
				t.Errorf("%s: get ends with %d and says %q", tt.name, o.Code, o.Stderr)
			}
		}
		if calls := s.Calls("/auth/apikey") - before; calls != tt.calls {
			t.Errorf("%s: %d exchanges, want %d", tt.name, calls, tt.calls)
		}
		for _, foreign := range []string{elsewhere, runtime} {
			if entries, _ := os.ReadDir(foreign); len(entries) != 0 {
				t.Errorf("%s: %s holds %v", tt.name, foreign, entries)
			}
		}
	}
}

// A home folder that is none is said, and an API key serves without one.
func TestNoHome(t *testing.T) {
	for _, home := range []string{"/dev/null", "relative", "/proc/nothing"} {
		s, m := newFileMachine(t)
		m.Setenv("HOME", home)
		m.Setenv("XDG_STATE_HOME", "also/relative") // to be ignored
		o := m.Run(Password, "login", "--registry", Registry, "--yes", "--username", User, "--password-stdin", "--insecure-storage", "--no-configure")
		if o.Code != 1 || !strings.Contains(o.Stderr, "HOME") && !strings.Contains(o.Stderr, home) || !strings.Contains(o.Stderr, "\nhint: ") {
			t.Errorf("HOME=%s: login ends with %d and says %q", home, o.Code, o.Stderr)
		}
		key, err := s.Identity.CreateKey(Subject, Context, "for a pipeline")
		if err != nil {
			t.Fatal(err)
		}
		m.Setenv("DTZ_API_KEY", key)
		m.Setenv("DTZ_REGISTRIES", Registry)
		if secret, o := m.Get(); secret == "" || o.Stderr != "" {
			t.Errorf("HOME=%s: get says %q", home, o.Stderr)
		}
	}
}
