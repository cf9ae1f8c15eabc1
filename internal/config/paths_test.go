//go:build !windows && !darwin

package config

import (
	"errors"
	"testing"
)

func TestPaths(t *testing.T) {
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
