//go:build linux

package main

import (
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

var loginPage = regexp.MustCompile(`\n  (http://\S+/oauth/authorize\?\S+)\r?\n`)

// addressToVisit is what the terminal tells the person to visit.
func (term *terminal) addressToVisit() string {
	term.t.Helper()
	var address string
	term.eventually("the terminal should show an address to visit", func(screen string) bool {
		if found := loginPage.FindStringSubmatch(screen); found != nil {
			address = found[1]
		}
		return address != ""
	})
	return address
}

// visitElsewhere is a browser on another machine: it ends at an address that it
// cannot show.
func visitElsewhere(t *testing.T, address string) string {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	last := ""
	browser := &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if last = r.URL.String(); r.URL.Path == "/callback" {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	resp, err := browser.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	resp, err = browser.PostForm(last, url.Values{"username": {testUser}, "password": {testPassword}})
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return last
}

func TestPastedRedirect(t *testing.T) {
	testenv.Need(t, "keychain")
	t.Parallel()
	p := newPlace(t)
	term := startInTerminal(t, p.env, append(loginOwn, "--web", "--no-browser", "--context", "context-def12345")...)
	address := term.addressToVisit()
	term.waitFor("Address (not shown): ", false)
	redirect := visitElsewhere(t, address)
	u, err := url.Parse(redirect)
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []struct{ text, want string }{
		{"", "Not that: nothing was pasted."},
		{address, "Not that: it is the address of another page."},
		{strings.Replace(redirect, "state=", "state=x", 1), "Not that: it belongs to another login."},
		{redirect + "&x=" + strings.Repeat("x", 70<<10), "Not that: it is too long."},
	} {
		term.write(wrong.text + "\r")
		term.waitFor(wrong.want, false)
	}
	term.write(" " + redirect + "&padding=" + strings.Repeat("x", 5000) + " \r") // more than a terminal's line takes
	term.waitFor("Logged in", true)
	if code := term.exitCode(); code != exitOK {
		t.Errorf("exit code %d: %s", code, term.screen())
	}
	if !strings.Contains(term.screen(), "in context \x1b[1mcontext-def12345\x1b[0m") {
		t.Errorf("want a login in context-def12345: %q", term.screen())
	}
	if code := u.Query().Get("code"); code == "" || strings.Contains(term.screen(), code) {
		t.Errorf("the code %q is shown: %q", code, term.screen())
	}
	term.checkRestored()
}

// The browser may be on this machine after all.
func TestBrowserComesBeforeThePaste(t *testing.T) {
	testenv.Need(t, "keychain")
	t.Parallel()
	p := newPlace(t)
	opener := t.TempDir()
	if err := os.WriteFile(filepath.Join(opener, "broken-browser"), []byte("#!/bin/sh\necho on standard output\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, env string
		flags     []string
		says      string
	}{
		{"by request", "BROWSER=", []string{"--no-browser"}, "Visit this address in a browser, and log in there:"},
		{"because there is no screen", "BROWSER=", nil, "Visit this address in a browser, and log in there:"},
		{"because it cannot be opened", "BROWSER=" + filepath.Join(opener, "broken-browser"), nil, "No browser could be opened (exit status 3): visit the address yourself."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append(append(loginOwn, "--web", "--context", "context-abc12345"), tt.flags...)
			term := startInTerminal(t, append(p.env, tt.env), args...)
			term.waitFor("Address (not shown): ", false)
			if !strings.Contains(term.screen(), tt.says) || strings.Contains(term.screen(), "on standard output") {
				t.Errorf("the terminal shows %q, want %q", term.screen(), tt.says)
			}
			shown, err := visit(term.addressToVisit(), testUser)
			if err != nil || !strings.Contains(shown, "You are logged in") {
				t.Errorf("the browser shows %q (%v), want that she is logged in", shown, err)
			}
			if code := term.exitCode(); code != exitOK {
				t.Errorf("exit code %d: %s", code, term.screen())
			}
			term.checkRestored()
		})
	}
}

// A person who does not know his context is asked for it.
func TestContextIsAskedFor(t *testing.T) {
	testenv.Need(t, "keychain")
	t.Parallel()
	p := newPlace(t)
	term := startInTerminal(t, p.env, append(loginOwn, "--web", "--no-browser")...)
	term.waitFor("Context id (context-…): ", true)
	term.write("context-def12345\n")
	term.waitFor("Address (not shown): ", false)
	if address := term.addressToVisit(); !strings.Contains(address, "client_id=context-def12345&") {
		t.Errorf("the address is %s, want the context for a client", address)
	}
	term.write("\x04") // the browser comes by itself
	term.waitFor("Waiting for the browser", true)
	if !strings.Contains(term.screen(), "Address (not shown): \r\n") {
		t.Errorf("the line that moves begins behind the prompt: %q", term.screen())
	}
	if _, err := visit(term.addressToVisit(), testUser); err != nil {
		t.Error(err)
	}
	if code := term.exitCode(); code != exitOK {
		t.Errorf("exit code %d: %s", code, term.screen())
	}
	term.checkRestored()
}
