package dockerconfig

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

const (
	before = `{"auths":{}}`
	after  = `{"auths":{},"credHelpers":{"cr.dtz.rocks":"dtz"}}`
)

func write(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, target, link string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
}

func wantContent(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s holds %q, %v, want %q", path, got, err, want)
	}
}

func wantMode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode() != want {
		t.Errorf("%s is %v, want %v", path, info.Mode(), want)
	}
}

// wantFiles checks that a folder holds these names and no temporary file.
func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s holds %q, want %q", dir, got, want)
	}
}

// add adds cr.dtz.rocks, which has to be new.
func add(t *testing.T, path string) {
	t.Helper()
	if c, err := (File{path}).Apply(Add([]string{ours}, "dtz", nil)); err != nil || !slices.Equal(addresses(c), []string{ours}) {
		t.Fatalf("Apply = %v, %v, want %s", c.Entries, err, ours)
	}
}

func TestPath(t *testing.T) {
	home := filepath.FromSlash("/home/alice")
	tests := []struct{ name, dockerConfig, home, want string }{
		{"the home folder's", "", home, filepath.Join(home, ".docker", "config.json")},
		{"DOCKER_CONFIG, which is a folder", filepath.FromSlash("/etc/docker/"), home, filepath.FromSlash("/etc/docker/config.json")},
		{"DOCKER_CONFIG without a home folder", "here", "", filepath.FromSlash("here/config.json")},
		{"neither", "", "", ""},
	}
	for _, tt := range tests {
		getenv := func(name string) string { return map[string]string{"DOCKER_CONFIG": tt.dockerConfig}[name] }
		if got := Path(getenv, tt.home); got != tt.want {
			t.Errorf("%s: Path = %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestThereIsNoFile(t *testing.T) {
	home := t.TempDir()
	f := File{filepath.Join(home, ".docker", "config.json")}

	if helpers, err := f.Helpers(); helpers != nil || err != nil {
		t.Errorf("Helpers = %v, %v, want none", helpers, err)
	}
	if c, err := f.Apply(Remove([]string{ours}, Origin{}, "dtz")); c.Entries != nil || err != nil {
		t.Errorf("removing = %+v, %v, want nothing to do", c, err)
	}
	would, err := f.Preview(Add([]string{ours}, "dtz", nil))
	if would.Before != nil || err != nil || !strings.Contains(string(would.After), ours) || would.Origin.Missing != MissingFile {
		t.Errorf("Preview = %+v, %v, want a new file", would, err)
	}
	wantFiles(t, home) // nothing so far

	add(t, f.Path)
	wantContent(t, f.Path, string(would.After))
	wantMode(t, f.Path, 0o600)
	wantMode(t, filepath.Dir(f.Path), fs.ModeDir|0o700)
	wantFiles(t, filepath.Dir(f.Path), "config.json")
	if helpers, err := f.Helpers(); err != nil || len(helpers) != 1 || helpers[ours] != "dtz" {
		t.Errorf("Helpers = %v, %v, want %s: dtz", helpers, err, ours)
	}

	// It goes again if we made it, which has to be known.
	c, err := f.Preview(Remove([]string{ours}, Origin{}, "dtz"))
	if err != nil || string(c.Before) != string(would.After) || string(c.After) != "{}\n" {
		t.Errorf("Preview = %+v, %v, want an empty configuration", c, err)
	}
	if c, err = f.Apply(Remove(nil, would.Origin, "dtz")); err != nil || c.After != nil || !slices.Equal(addresses(c), []string{ours}) {
		t.Errorf("removing = %+v, %v, want no file", c, err)
	}
	wantFiles(t, filepath.Dir(f.Path))
}

func TestThereIsNoHomeFolder(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, err := (File{}).Apply(Add([]string{ours}, "dtz", nil)); err == nil {
		t.Error("Add without a path succeeded")
	}
	wantFiles(t, ".")
}

func TestPathInTheWorkingFolder(t *testing.T) {
	t.Chdir(t.TempDir())
	add(t, "config.json")
	wantFiles(t, ".", "config.json")
}

func TestModeStays(t *testing.T) {
	for _, mode := range []fs.FileMode{0o600, 0o640, 0o664, 0o400} {
		path := filepath.Join(t.TempDir(), "config.json")
		write(t, path, before, mode)
		add(t, path)
		wantContent(t, path, after)
		wantMode(t, path, mode)
		wantFiles(t, filepath.Dir(path), "config.json")
	}
}

func TestNothingIsWrittenWhenNothingChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	write(t, path, after, 0o600)
	was, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f := File{path}
	for name, e := range map[string]Edit{
		"Add of what is there":        Add([]string{ours}, "dtz", anything),
		"Remove of what is not there": Remove([]string{ported}, Origin{Missing: MissingFile}, "dtz"),
		"Remove of another's":         Remove([]string{ours}, Origin{Missing: MissingFile}, "pass"),
	} {
		if c, err := f.Apply(e); c.Entries != nil || err != nil {
			t.Errorf("%s = %v, %v, want nothing to do", name, c.Entries, err)
		}
		if is, err := os.Stat(path); err != nil || !os.SameFile(was, is) {
			t.Errorf("%s wrote the file, %v", name, err)
		}
	}
}

func TestSymbolicLinks(t *testing.T) {
	// Each returns the path to edit and the file that is to be edited.
	tests := map[string]func(t *testing.T, dir string) (path, target string){
		"absolute": func(t *testing.T, dir string) (string, string) {
			path, target := filepath.Join(dir, "docker", "config.json"), filepath.Join(dir, "dotfiles", "docker.json")
			write(t, target, before, 0o640)
			symlink(t, target, path)
			return path, target
		},
		"relative": func(t *testing.T, dir string) (string, string) {
			path, target := filepath.Join(dir, "docker", "config.json"), filepath.Join(dir, "dotfiles", "docker.json")
			write(t, target, before, 0o640)
			symlink(t, filepath.Join("..", "dotfiles", "docker.json"), path)
			return path, target
		},
		"a chain": func(t *testing.T, dir string) (string, string) {
			path, target := filepath.Join(dir, "docker", "config.json"), filepath.Join(dir, "far", "docker.json")
			write(t, target, before, 0o640)
			symlink(t, filepath.Join("..", "far", "docker.json"), filepath.Join(dir, "dotfiles", "docker.json"))
			symlink(t, filepath.Join(dir, "dotfiles", "docker.json"), path)
			return path, target
		},
		"relative, in a folder that is a link itself": func(t *testing.T, dir string) (string, string) {
			target := filepath.Join(dir, "far", "shared.json")
			write(t, target, before, 0o640)
			symlink(t, filepath.Join("..", "shared.json"), filepath.Join(dir, "far", "docker", "config.json"))
			symlink(t, filepath.Join("far", "docker"), filepath.Join(dir, "docker"))
			return filepath.Join(dir, "docker", "config.json"), target
		},
	}
	for name, setUp := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path, target := setUp(t, dir)
			add(t, path)
			wantContent(t, target, after)
			wantMode(t, target, 0o640)
			if info, err := os.Lstat(path); err != nil || info.Mode()&fs.ModeSymlink == 0 {
				t.Errorf("%s is no link any more, %v", path, err)
			}
			for _, file := range []string{path, target} {
				if left, err := filepath.Glob(filepath.Join(filepath.Dir(file), ".*.json.*")); err != nil || left != nil {
					t.Errorf("left behind: %v, %v", left, err)
				}
			}
		})
	}
}

func TestDanglingLink(t *testing.T) {
	dir := t.TempDir()
	path, target := filepath.Join(dir, "config.json"), filepath.Join(dir, "dotfiles", "docker.json")
	symlink(t, filepath.Join("dotfiles", "docker.json"), path)
	add(t, path)
	wantMode(t, target, 0o600)
	if info, err := os.Lstat(path); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("%s is no link any more, %v", path, err)
	}
	if helpers, err := (File{target}).Helpers(); err != nil || helpers[ours] != "dtz" {
		t.Errorf("the target has %v, %v", helpers, err)
	}
}

func TestLeftAloneAndNamed(t *testing.T) {
	// Each puts something at path that is to be there afterwards as well.
	tests := []struct {
		name  string
		setUp func(t *testing.T, path string)
		want  string
	}{
		{"a folder", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
		{"links in a circle", func(t *testing.T, path string) {
			symlink(t, "other.json", path)
			symlink(t, "config.json", filepath.Join(filepath.Dir(path), "other.json"))
		}, "too many symbolic links"},
		{"a device", func(t *testing.T, path string) {
			if runtime.GOOS == "windows" {
				t.Skip("no device to link to")
			}
			symlink(t, os.DevNull, path)
		}, "not a regular file"},
		{"a file over 4 MiB", func(t *testing.T, path string) {
			write(t, path, "{"+strings.Repeat(" ", 4<<20)+"}", 0o600)
		}, "larger than 4 MiB"},
		{"a file that is not JSON", func(t *testing.T, path string) {
			write(t, path, "{\n// mine\n}", 0o600)
		}, "not standard JSON: invalid character '/' looking for beginning of object key string (line 2)"},
		{"another helper", func(t *testing.T, path string) {
			write(t, path, `{"credHelpers":{"cr.dtz.rocks":"pass"}}`, 0o600)
		}, `"cr.dtz.rocks" uses the credential helper "pass"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.json")
			tt.setUp(t, path)
			was, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			files, err := os.ReadDir(filepath.Dir(path))
			if err != nil {
				t.Fatal(err)
			}
			_, addErr := File{path}.Apply(Add([]string{ours}, "dtz", nil))
			_, previewErr := File{path}.Preview(Add([]string{ours}, "dtz", nil))
			for _, err := range []error{addErr, previewErr} {
				if err == nil || !strings.Contains(err.Error(), filepath.Dir(path)) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("error = %v, want one that names the file and says %q", err, tt.want)
				}
			}
			if is, err := os.Lstat(path); err != nil || !os.SameFile(was, is) {
				t.Errorf("the file was replaced, %v", err)
			}
			if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != len(files) {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestAFileInPlaceOfTheFolder(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, ".docker"), "mine", 0o600)
	if _, err := (File{filepath.Join(dir, ".docker", "config.json")}).Apply(Add([]string{ours}, "dtz", nil)); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("error = %v, want one that names the file", err)
	}
	wantContent(t, filepath.Join(dir, ".docker"), "mine")
	wantFiles(t, dir, ".docker")
}
