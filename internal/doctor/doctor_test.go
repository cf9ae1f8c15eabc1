package doctor

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// What other systems have cannot be broken on this one: their checks are given
// another world. All the rest is tested on the program, in cmd.
func world(t *testing.T, goos string, env map[string]string) *machine {
	t.Helper()
	return &machine{World: World{
		GOOS: goos, Self: filepath.Join(t.TempDir(), program),
		Lookup: func(name string) (string, bool) { value, set := env[name]; return value, set },
	}}
}

// place makes an empty program and returns its folder.
func place(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), nil, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestPathOfTheDock(t *testing.T) {
	if _, err := os.Stat("/usr/local/bin/" + program); err == nil {
		t.Skip("this machine has it where the Dock's programs look")
	}
	m := world(t, "darwin", nil)
	m.found = []string{"/opt/homebrew/bin/" + program}
	f := m.desktop(t.Context())
	if f.State != Warning || !strings.Contains(f.Saw, "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin only") ||
		f.Remedy != "sudo ln -s /opt/homebrew/bin/"+program+" /usr/local/bin/" {
		t.Errorf("desktop: %+v", f)
	}
	if f := world(t, "windows", nil).desktop(t.Context()); f.State != OK {
		t.Errorf("desktop on Windows, where all programs have one PATH: %+v", f)
	}
}

func TestFindAll(t *testing.T) {
	dir := place(t, program)
	link := filepath.Join(t.TempDir(), "link")
	folder := t.TempDir()
	for _, err := range []error{os.Symlink(dir, link), os.Mkdir(filepath.Join(folder, program), 0o700)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	path := strings.Join([]string{"", ".", "relative", folder, filepath.Join(dir, "absent"), dir, link, dir}, string(os.PathListSeparator))
	got := world(t, "linux", nil).findAll(path, program)
	if want := filepath.Join(dir, program); len(got) != 1 || got[0] != want {
		t.Errorf("findAll = %q, want %q alone", got, want)
	}
	windows := place(t, program+".exe")
	if got := world(t, "windows", nil).findAll(windows, program); len(got) != 1 {
		t.Errorf("findAll on Windows = %q, want the .exe", got)
	}
}

func TestUnlockingOnMacOS(t *testing.T) {
	for _, ssh := range []string{"", "192.0.2.1 50000 192.0.2.2 22"} {
		m := world(t, "darwin", map[string]string{"SSH_CONNECTION": ssh})
		if got := m.keychainRemedy(store.Locked); got != "security unlock-keychain" {
			t.Errorf("over SSH %q: %q", ssh, got)
		}
	}
}

// A check that fails takes with it what hangs on it, and nothing else, in its
// own name.
func TestWhatIsBehindAFailure(t *testing.T) {
	good := func(int, context.Context) Finding { return ok("") }
	bad := func(int, context.Context) Finding { return failed("", "") }
	got := perform(t.Context(), []check[int]{
		{"a", nil, good},
		{"b", []string{"a"}, bad},
		{"c", []string{"b"}, good},
		{"d", []string{"a", "c"}, good},
		{"e", []string{"a"}, good},
	}, 0, failures{})
	var states []string
	for _, f := range got {
		states = append(states, f.Check+" "+string(f.State)+" "+f.Saw)
	}
	want := "a ok , b failed , c skipped not looked at: b comes first, d skipped not looked at: b comes first, e ok "
	if got := strings.Join(states, ", "); got != want {
		t.Errorf("perform = %s, want %s", got, want)
	}
}

func TestVersionOf(t *testing.T) {
	for _, tt := range []struct{ name, script, want string }{
		{"one of ours", "echo 'docker-credential-dtz (github.com/x/y) 1.2.3'", "1.2.3"},
		{"another helper", "echo 'docker-credential-pass (github.com/x/y) v0.9.4'", ""},
		{"nothing of the kind", "echo hello", ""},
		{"a failure", "echo 'docker-credential-dtz (x) 1.2.3'; exit 1", ""},
		{"control characters", `printf 'docker-credential-dtz (x) 1\033[31m'`, "1"},
	} {
		path := filepath.Join(t.TempDir(), program)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+tt.script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		if got := VersionOf(t.Context(), path); got != tt.want {
			t.Errorf("%s: VersionOf = %q, want %q", tt.name, got, tt.want)
		}
	}
}
