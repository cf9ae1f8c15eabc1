//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhichBrowser(t *testing.T) {
	skipInWSL(t)
	dir := t.TempDir()
	for _, name := range []string{"firefox", "w3m", "lynx"} {
		if err := os.WriteFile(dir+"/"+name, []byte("#!/bin/sh\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	tests := []struct {
		name string
		env  string
		want bool
	}{
		{"a desktop", "DISPLAY=:0", true},
		{"a desktop without X", "WAYLAND_DISPLAY=wayland-0", true},
		{"a terminal and nothing else", "", false},
		{"Linux in Windows", "WSL_DISTRO_NAME=Debian", true},
		{"another machine's terminal", "SSH_CONNECTION=10.0.0.1 1 10.0.0.2 22", false},
		{"another machine's terminal, with X forwarded", "DISPLAY=localhost:10 SSH_TTY=/dev/pts/1", false},
		{"an editor that carries addresses to where its user is", "SSH_CONNECTION=x BROWSER=" + dir + "/firefox", true},
		{"a browser by its name", "BROWSER=firefox", true},
		{"the first of a list that is there", "BROWSER=chrome:firefox", true},
		{"a browser that is not there", "BROWSER=chrome", false},
		{"a browser in the terminal, which is in use", "BROWSER=w3m", false},
		{"nothing but those", "BROWSER=/usr/bin/lynx:w3m", false},
	}
	for _, tt := range tests {
		if got := withEnv(tt.env).hasBrowser(); got != tt.want {
			t.Errorf("%s: a window opens is %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestWhatOpensTheBrowser(t *testing.T) {
	skipInWSL(t)
	tests := []struct {
		name     string
		env      string
		programs string // on PATH
		want     string
	}{
		{"a desktop has its own", "DISPLAY=:0", "xdg-open wslview rundll32.exe", ""},
		{"Linux in Windows, without a script that hands the address to PowerShell", "WSL_DISTRO_NAME=Debian", "xdg-open wslview rundll32.exe", "rundll32.exe url.dll,FileProtocolHandler"},
		{"with a screen for Linux, too", "WSL_DISTRO_NAME=Debian DISPLAY=:0", "xdg-open rundll32.exe", "rundll32.exe url.dll,FileProtocolHandler"},
		{"parted from Windows", "WSL_DISTRO_NAME=Debian", "xdg-open", ""},
		{"by choice", "WSL_DISTRO_NAME=Debian BROWSER=firefox", "rundll32.exe firefox", "firefox"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name := range strings.FieldsSeq(tt.programs) {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("PATH", dir)
			got := strings.ReplaceAll(strings.Join(withEnv(tt.env).opener(), " "), dir+"/", "")
			if got != tt.want {
				t.Errorf("the opener is %q, want %q", got, tt.want)
			}
		})
	}
}

// withEnv is a system with these variables, NAME=value parted by spaces.
func withEnv(pairs string) system {
	env := map[string]string{}
	for pair := range strings.FieldsSeq(pairs) {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	return system{lookup: func(name string) (string, bool) { value, ok := env[name]; return value, ok }}
}

func skipInWSL(t *testing.T) {
	t.Helper()
	if withEnv("").inWSL() {
		t.Skip("this is WSL, whatever its variable says")
	}
}
