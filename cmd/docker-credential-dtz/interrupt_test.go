//go:build linux

package main

import (
	"bytes"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

var loginOwn = []string{"login", "--registry", "127.0.0.1:5000", "--yes"}

func TestPasswordIsNotShown(t *testing.T) {
	testenv.Need(t, "keychain")
	for _, tt := range []struct{ name, keys string }{
		{"typed", testPassword + "\r"},
		{"mended with backspace", "correct horses\x7f battery staplé\x7fe\r"},
		{"begun again with Ctrl-U", "wrong\x15" + testPassword + "\r"},
		{"ended with Ctrl-D", testPassword + "\x04"},
		{"with a key that does nothing", testPassword + "\x1a\r"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			term := startInTerminal(t, p.env, loginOwn...)
			term.waitFor("DTZ user name at 127.0.0.1:", true)
			term.write(testUser + "\n")
			term.waitFor("Password at 127.0.0.1:", false)
			term.write(tt.keys)
			term.waitFor("Logged in", true)
			if code := term.exitCode(); code != exitOK {
				t.Errorf("exit code %d: %s", code, term.screen())
			}
			if strings.Contains(term.screen(), "horse") || strings.Contains(term.screen(), "wrong") {
				t.Errorf("the password is shown: %q", term.screen())
			}
			term.checkRestored()
		})
	}
}

// At a terminal a password or key is asked for, even where it could have come
// through a pipe.
func TestSecretsForStandardInputAreAskedFor(t *testing.T) {
	testenv.Need(t, "keychain")
	t.Parallel()
	p := newPlace(t)
	key, err := p.service.CreateKey("identity-alice123", "", "typed")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		flags          []string
		prompt, secret string
	}{
		{[]string{"--username", testUser, "--password-stdin"}, "Password at 127.0.0.1:", testPassword},
		{[]string{"--api-key-stdin", "--quiet"}, "API key at 127.0.0.1:", key},
	} {
		term := startInTerminal(t, p.env, append(loginOwn, tt.flags...)...)
		term.waitFor(tt.prompt, false)
		term.write(tt.secret + "\r")
		if code := term.exitCode(); code != exitOK {
			t.Errorf("%q: exit code %d: %s", tt.flags, code, term.screen())
		}
		if strings.Contains(term.screen(), tt.secret) {
			t.Errorf("%q: the secret is shown: %q", tt.flags, term.screen())
		}
		term.checkRestored()
	}
}

// Prompts go to standard error, so that a pipe behind the program does not take
// them.
func TestLoginInFrontOfAPipe(t *testing.T) {
	testenv.Need(t, "keychain")
	t.Parallel()
	p := newPlace(t)
	cmd := exec.CommandContext(t.Context(), program, loginOwn...)
	var stdout bytes.Buffer
	cmd.Env, cmd.Stdout = p.env, &stdout
	term := startCommandInTerminal(t, cmd)
	term.waitFor("DTZ user name at 127.0.0.1:", true)
	term.write(testUser + "\n")
	term.waitFor("Password at 127.0.0.1:", false)
	term.write(testPassword + "\r")
	if code := term.exitCode(); code != exitOK || stdout.Len() != 0 {
		t.Errorf("exit code %d, standard output %q: %s", code, &stdout, term.screen())
	}
	term.checkRestored()
}

// Ctrl-D in place of an answer.
func TestNoAnswer(t *testing.T) {
	testenv.Need(t, "keychain")
	t.Parallel()
	p := newPlace(t)
	for _, tt := range []struct {
		flags  []string
		prompt string
		echo   bool
		keys   string
		want   string
	}{
		{nil, "DTZ user name at 127.0.0.1:", true, "\x04", "reading the user name: no answer was given\r\nhint: "},
		{nil, "DTZ user name at 127.0.0.1:", true, "\n", "reading the user name: no answer was given\r\nhint: "},
		{[]string{"--username", testUser}, "Password at 127.0.0.1:", false, "\x04", "reading the password: no answer was given\r\nhint: "},
		{[]string{"--username", testUser}, "Password at 127.0.0.1:", false, "\r", "reading the password: no answer was given\r\nhint: "},
		{[]string{"--api-key-stdin"}, "API key at 127.0.0.1:", false, "\x04", "reading the API key: no answer was given\r\nhint: "},
		{[]string{"--registry", "127.0.0.1:5001", "--yes=false"}, "[y/N] ", true, "\x04", "is not served; nothing was changed\r\nhint: "},
	} {
		term := startInTerminal(t, p.env, append(loginOwn, tt.flags...)...)
		term.waitFor(tt.prompt, tt.echo)
		term.write(tt.keys)
		if code := term.exitCode(); code != exitFailure {
			t.Errorf("%q at %q: exit code %d", tt.keys, tt.prompt, code)
		}
		term.checkRestored()
		if want := "\r\ndocker-credential-dtz: "; !strings.Contains(term.screen(), tt.want) || !strings.Contains(term.screen(), want) {
			t.Errorf("%q at %q: %q, want %q on a line of its own", tt.keys, tt.prompt, term.screen(), tt.want)
		}
	}
}

// Wherever the program is interrupted, the terminal is as it was, and the
// shell's prompt at the beginning of a line.
func TestInterruptRestoresTheTerminal(t *testing.T) {
	testenv.Need(t, "keychain")
	const ctrlC, ctrlBackslash, sigterm = "\x03", "\x1c", "SIGTERM"
	silentService := "DTZ_IDENTITY_URL=http://" + listenInSilence(t)
	silentKeychain := "DBUS_SESSION_BUS_ADDRESS=" + listenForVisitors(t).address
	user := []string{"--username", testUser}
	web := []string{"--web", "--context", "context-abc12345"}
	for _, tt := range []struct {
		name  string
		env   string // in addition
		flags []string
		// typed at the password's prompt before; empty: nothing
		password string
		shows    string // when it is interrupted
		echo     bool
		by       string
	}{
		{name: "Ctrl-C at the user name", shows: "DTZ user name at 127.0.0.1:", echo: true, by: ctrlC},
		{name: "SIGTERM at the user name", shows: "DTZ user name at 127.0.0.1:", echo: true, by: sigterm},
		{name: "Ctrl-C at the password", flags: user, shows: "Password at 127.0.0.1:", by: ctrlC},
		{name: `Ctrl-\ at the password`, flags: user, shows: "Password at 127.0.0.1:", by: ctrlBackslash},
		{name: "SIGTERM at the password", flags: user, shows: "Password at 127.0.0.1:", by: sigterm},
		{name: "Ctrl-C at the API key", flags: []string{"--api-key-stdin"}, shows: "API key at 127.0.0.1:", by: ctrlC},
		{name: "Ctrl-C at a question", flags: []string{"--yes=false"}, shows: "[y/N] ", echo: true, by: ctrlC},
		{name: "Ctrl-C while the identity service is waited for", env: silentService, flags: user, password: "x\r", shows: "Waiting for the identity service", echo: true, by: ctrlC},
		{name: "SIGTERM while the identity service is waited for", env: silentService, flags: user, password: "x\r", shows: "Waiting for the identity service", echo: true, by: sigterm},
		{name: "Ctrl-C while it is asked where the browser logs in", env: silentService, flags: web, shows: "Waiting for the identity service", echo: true, by: ctrlC},
		{name: "Ctrl-C while the browser is waited for", env: "BROWSER=true", flags: web, shows: "Waiting for the browser", echo: true, by: ctrlC},
		{name: "Ctrl-C at the pasted address", flags: append(web, "--no-browser"), shows: "Address (not shown): ", by: ctrlC},
		{name: "SIGTERM at the pasted address", flags: append(web, "--no-browser"), shows: "Address (not shown): ", by: sigterm},
		{name: "Ctrl-C while the keychain is waited for", env: silentKeychain, flags: user, shows: "Waiting for the keychain", echo: true, by: ctrlC},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			if tt.env != "" {
				p.env = append(p.env, tt.env)
			}
			term := startInTerminal(t, p.env, append(loginOwn, tt.flags...)...)
			if tt.password != "" {
				term.waitFor("Password at 127.0.0.1:", false)
				term.write(tt.password)
			}
			term.waitFor(tt.shows, tt.echo)
			if tt.by == sigterm {
				if err := term.cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			} else {
				term.write(tt.by)
			}
			if code := term.exitCode(); code != exitInterrupted {
				t.Errorf("exit code %d, want %d: %q", code, exitInterrupted, term.screen())
			}
			term.checkRestored()
			if calls := p.calls("/token/auth"); calls != 0 {
				t.Errorf("%d calls to the identity service", calls)
			}
			if strings.Contains(term.screen(), program+": ") {
				t.Errorf("who interrupts needs no error: %q", term.screen())
			}
		})
	}
}

// listenInSilence takes connections and never answers.
func listenInSilence(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = conn.Close() })
		}
	}()
	return l.Addr().String()
}
