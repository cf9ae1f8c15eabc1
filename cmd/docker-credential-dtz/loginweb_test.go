package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
)

// openBrowserWindow is xdg-open: it returns while the browser is open.
func openBrowserWindow() {
	if code := os.Getenv("OPENER_EXIT"); code != "" {
		fmt.Println("xdg-open: on standard output")
		os.Exit(3)
	}
	cmd := exec.Command("visitor", os.Args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// visitLoginPage is a browser in which somebody logs in, as far as VISITOR says
// who. It leaves what it shows in the end, with the address, in the file SHOWN.
func visitLoginPage(address string) {
	shown, err := visit(address, os.Getenv("VISITOR"))
	if err != nil {
		shown = err.Error()
	}
	file := os.Getenv("SHOWN")
	err = os.WriteFile(file+".new", []byte(shown+"\n"), 0o600)
	if err == nil {
		err = os.Rename(file+".new", file) // whole, or not at all
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func visit(address, user string) (shown string, err error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return "", err
	}
	browser := &http.Client{Jar: jar}
	resp, err := browser.Get(address)
	if err == nil && user != "" && resp.Request.URL.Path == "/login" {
		_ = resp.Body.Close()
		resp, err = browser.PostForm(resp.Request.URL.String(), url.Values{"username": {user}, "password": {testPassword}})
	}
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return fmt.Sprintf("%s\n%s\n%s", resp.Request.URL, resp.Status, body), err
}

func TestWhichBrowser(t *testing.T) {
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
		env := map[string]string{}
		for _, pair := range strings.Split(tt.env, " ") {
			name, value, _ := strings.Cut(pair, "=")
			env[name] = value
		}
		sys := system{lookup: func(name string) (string, bool) { value, ok := env[name]; return value, ok }}
		if got := sys.hasBrowser(); got != tt.want {
			t.Errorf("%s: a window opens is %v, want %v", tt.name, got, tt.want)
		}
	}
}

// A page about a client that is unknown sends no browser back.
func TestNobodyCameForTheWrongContext(t *testing.T) {
	if hint := hintOf(explainWeb(oauth.ErrNobodyCame)); !strings.Contains(hint, "--context") || !strings.Contains(hint, "--no-browser") {
		t.Errorf("the hint is %q, want --context and --no-browser in it", hint)
	}
}
