package dockerconfig

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// Whatever a file looks like, adding and removing gives it back byte for byte,
// with its mode, and a link to it stays one.
func TestTakenBack(t *testing.T) {
	const auths, store, keys = `"auths"%s:%s{"ghcr.io":%s{}}`, `"credsStore"%s:%s"pass"%.0s`, `"detachKeys"%s:%s"ctrl-e,\u0065"%.0s`
	helpers := []string{`"credHelpers"%s:%s{}%.0s`, `"credHelpers"%s:%s{ "gcr.io":%s"gcloud" }`, `"CREDHELPERS"%s:%s{"a":"","b":%s"pass"}`}
	sets := [][]string{{}, {auths}, {keys, auths, store}, {store, keys}}
	for _, helper := range helpers {
		sets = append(sets, []string{helper}, []string{helper, auths}, []string{auths, helper}, []string{store, helper, keys})
	}
	n := 0
	dir := t.TempDir()
	for _, set := range sets {
		for _, newline := range []string{"", " ", "\n", "\r\n", "\n\n"} {
			for _, indent := range []string{"", "\t", "  ", "    "} {
				for _, colon := range [][2]string{{"", ""}, {"", " "}, {" ", "  "}} {
					for _, around := range [][2]string{{"", ""}, {"", newline}, {newline + indent, ""}} {
						var members []string
						for _, m := range set {
							members = append(members, newline+indent+fmt.Sprintf(m, colon[0], colon[1], colon[1]))
						}
						content := around[0] + "{" + strings.Join(members, ",") + newline + "}" + around[1]
						takenBack(t, content)
						if n++; n%100 == 0 {
							takenBackFromFile(t, filepath.Join(dir, strconv.Itoa(n)), content)
						}
					}
				}
			}
		}
	}
}

func takenBack(t *testing.T, content string) {
	t.Helper()
	added, err := Add([]string{ported, ours}, "dtz", nil)([]byte(content))
	if err != nil || len(added.Entries) != 2 {
		t.Fatalf("adding to %q: %+v, %v", content, added, err)
	}
	c := added
	// One after the other, as a person may.
	for _, addresses := range [][]string{{ported}, nil} {
		if c, err = Remove(addresses, added.Origin, "dtz")(c.After); err != nil {
			t.Fatalf("removing from %q: %v", added.After, err)
		}
	}
	if string(c.After) != content {
		t.Errorf("%q with entries is\n%s\nand without them %q", content, added.After, c.After)
	}
}

func takenBackFromFile(t *testing.T, dir, content string) {
	t.Helper()
	file, link := filepath.Join(dir, "target.json"), filepath.Join(dir, "config.json")
	write(t, file, content, 0o640)
	f := File{file}
	if runtime.GOOS != "windows" {
		symlink(t, "target.json", link)
		f = File{link}
	}
	added, err := f.Apply(Add([]string{ported, ours}, "dtz", nil))
	if err != nil || len(added.Entries) != 2 {
		t.Fatalf("adding to %q: %+v, %v", content, added, err)
	}
	if _, err := f.Apply(Remove(nil, added.Origin, "dtz")); err != nil {
		t.Fatalf("removing from %q: %v", added.After, err)
	}
	wantContent(t, file, content)
	wantMode(t, file, 0o640)
	if info, err := os.Lstat(f.Path); err != nil || f.Path == link && info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is none any more: %v", err)
	}
}

func TestContainersPath(t *testing.T) {
	tests := []struct {
		name, goos, home string
		env              map[string]string
		path, first      string
	}{
		{
			name: "Linux, in a session", goos: "linux", home: "/home/me", env: map[string]string{"XDG_RUNTIME_DIR": "/run/user/1000"},
			path: "/home/me/.config/containers/auth.json", first: "/run/user/1000/containers/auth.json",
		},
		{
			name: "Linux, without a session", goos: "linux", home: "/root",
			path: "/root/.config/containers/auth.json", first: "/run/containers/1000/auth.json",
		},
		{
			name: "XDG_CONFIG_HOME", goos: "linux", home: "/home/me", env: map[string]string{"XDG_CONFIG_HOME": "/cfg", "XDG_RUNTIME_DIR": "/run/user/1000"},
			path: "/cfg/containers/auth.json", first: "/run/user/1000/containers/auth.json",
		},
		{
			name: "macOS knows one file", goos: "darwin", home: "/Users/me", env: map[string]string{"XDG_CONFIG_HOME": "/cfg", "XDG_RUNTIME_DIR": "/run"},
			path: "/Users/me/.config/containers/auth.json",
		},
		{name: "Windows knows one file", goos: "windows", home: "/me", path: "/me/.config/containers/auth.json"},
		{
			name: "REGISTRY_AUTH_FILE is the only one", goos: "linux", home: "/home/me", env: map[string]string{"REGISTRY_AUTH_FILE": "auth.json", "XDG_RUNTIME_DIR": "/run/user/1000"},
			path: "auth.json",
		},
		{name: "no home", goos: "linux", env: map[string]string{"XDG_RUNTIME_DIR": "/run/user/1000"}},
	}
	for _, tt := range tests {
		path, first := ContainersPath(func(name string) string { return tt.env[name] }, tt.home, tt.goos, 1000)
		if filepath.ToSlash(path) != tt.path || filepath.ToSlash(first) != tt.first {
			t.Errorf("%s: ContainersPath = %q, %q, want %q, %q", tt.name, path, first, tt.path, tt.first)
		}
	}
}

func TestAnswers(t *testing.T) {
	tests := []struct {
		name, content string
		want          bool
	}{
		{"a secret", `{"auths":{"cr.dtz.rocks":{"auth":"x"}}}`, true},
		{"a secret for a repository", `{"auths":{"cr.dtz.rocks/some/image":{"auth":"x"}}}`, true},
		{"a secret as Docker once wrote it", `{"auths":{"https://cr.dtz.rocks/v1/":{"identitytoken":"x"}}}`, true},
		{"another helper", `{"credHelpers":{"cr.dtz.rocks":"pass"}}`, true},
		{"our helper, before a secret", `{"auths":{"cr.dtz.rocks":{"auth":"x"}},"credHelpers":{"cr.dtz.rocks":"dtz.exe"}}`, false},
		{"an entry without a secret", `{"auths":{"cr.dtz.rocks":{}}}`, false},
		{"another port", `{"auths":{"cr.dtz.rocks:3214":{"auth":"x"}}}`, false},
		{"another host", `{"auths":{"cr.dtz.rocks.example":{"auth":"x"}}}`, false},
		{"nothing", ``, false},
	}
	for _, tt := range tests {
		path := filepath.Join(t.TempDir(), "auth.json")
		write(t, path, tt.content, 0o600)
		if got, err := (File{path}).Answers(ours, "dtz", "dtz.exe"); got != tt.want || err != nil {
			t.Errorf("%s: Answers = %v, %v, want %v", tt.name, got, err, tt.want)
		}
	}
	if got, err := (File{filepath.Join(t.TempDir(), "auth.json")}).Answers(ours); got || err != nil {
		t.Errorf("no file: Answers = %v, %v", got, err)
	}
	path := filepath.Join(t.TempDir(), "auth.json")
	write(t, path, `{"auths":"c4nary"}`, 0o600)
	if _, err := (File{path}).Answers(ours); err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "c4nary") {
		t.Errorf("not an object: error = %v, want one that names the file and quotes nothing", err)
	}
}
