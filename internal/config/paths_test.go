package config

import (
	"errors"
	"runtime"
	"testing"
)

func TestPaths(t *testing.T) {
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		t.Skip("on this platform there are no XDG folders")
	}
	tests := []struct {
		name          string
		env           map[string]string
		config, state string
	}{
		{"a home folder", map[string]string{"HOME": "/home/a"}, "/home/a/.config/docker-credential-dtz/config.json", "/home/a/.local/state/docker-credential-dtz"},
		{"XDG folders", map[string]string{"HOME": "/home/a", "XDG_CONFIG_HOME": "/c", "XDG_STATE_HOME": "/s"}, "/c/docker-credential-dtz/config.json", "/s/docker-credential-dtz"},
		{"a relative XDG folder, to be ignored", map[string]string{"HOME": "/home/a", "XDG_CONFIG_HOME": "c", "XDG_STATE_HOME": "s"}, "/home/a/.config/docker-credential-dtz/config.json", "/home/a/.local/state/docker-credential-dtz"},
		{"nothing", nil, "", ""},
		{"a relative home folder", map[string]string{"HOME": "."}, "", ""},
	}
	for _, tt := range tests {
		getenv := func(name string) string { return tt.env[name] }
		path, err := Path(getenv)
		if path != tt.config || (tt.config == "") != errors.Is(err, ErrNoHome) {
			t.Errorf("%s: Path = %q, %v, want %q", tt.name, path, err, tt.config)
		}
		state, err := StateDir(getenv)
		if state != tt.state || (tt.state == "") != errors.Is(err, ErrNoHome) {
			t.Errorf("%s: StateDir = %q, %v, want %q", tt.name, state, err, tt.state)
		}
	}
}

func TestPathsOnMacOS(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("paths begin with a drive here")
	}
	for _, tt := range []struct {
		name string
		env  map[string]string
		want string
	}{
		{"a home folder", map[string]string{"HOME": "/Users/a"}, "/Users/a/Library/Application Support/docker-credential-dtz"},
		{"XDG folders, which are none of macOS", map[string]string{"HOME": "/Users/a", "XDG_STATE_HOME": "/s"}, "/Users/a/Library/Application Support/docker-credential-dtz"},
		{"nothing", nil, ""},
		{"a relative home folder", map[string]string{"HOME": "."}, ""},
	} {
		got, err := place("darwin", func(name string) string { return tt.env[name] }, "XDG_STATE_HOME", ".local/state", "LocalAppData")
		if got != tt.want || (tt.want == "") != errors.Is(err, ErrNoHome) {
			t.Errorf("%s: %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

// Run under Wine by TestWindows of the program.
func TestPathsOnWindows(t *testing.T) {
	if runtime.GOOS != "windows" {
		t.Skip("paths begin with no drive here")
	}
	for _, tt := range []struct {
		name          string
		env           map[string]string
		config, state string
	}{
		{
			"an account",
			map[string]string{"AppData": `C:\Users\a\AppData\Roaming`, "LocalAppData": `C:\Users\a\AppData\Local`},
			`C:\Users\a\AppData\Roaming\docker-credential-dtz\config.json`, `C:\Users\a\AppData\Local\docker-credential-dtz`,
		},
		{
			"folders on a share",
			map[string]string{"AppData": `\\server\homes\a`, "LocalAppData": `D:\a`},
			`\\server\homes\a\docker-credential-dtz\config.json`, `D:\a\docker-credential-dtz`,
		},
		{"HOME and XDG folders, as Git Bash has them", map[string]string{"HOME": `C:\a`, "XDG_STATE_HOME": `C:\s`, "XDG_CONFIG_HOME": `C:\c`}, "", ""},
		{"paths without a drive", map[string]string{"AppData": `\a`, "LocalAppData": "a"}, "", ""},
	} {
		getenv := func(name string) string { return tt.env[name] }
		path, err := Path(getenv)
		if path != tt.config || (tt.config == "") != (err != nil) {
			t.Errorf("%s: Path = %q, %v, want %q", tt.name, path, err, tt.config)
		}
		state, err := StateDir(getenv)
		if state != tt.state || (tt.state == "") != (err != nil) {
			t.Errorf("%s: StateDir = %q, %v, want %q", tt.name, state, err, tt.state)
		}
	}
}
