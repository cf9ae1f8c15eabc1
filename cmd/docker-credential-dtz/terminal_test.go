//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// terminal is a person's, with the program in it.
type terminal struct {
	t   *testing.T
	pty *os.File
	cmd *exec.Cmd

	mu    sync.Mutex
	shown bytes.Buffer
}

func startInTerminal(t *testing.T, env []string, args ...string) *terminal {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = env
	f, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, pty: f, cmd: cmd}
	t.Cleanup(func() { _ = f.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := f.Read(buf)
			term.mu.Lock()
			term.shown.Write(buf[:n])
			term.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return term
}

func (term *terminal) screen() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.shown.String()
}

// waitFor waits until the terminal shows text, and is ready for an answer that
// is not to be shown.
func (term *terminal) waitFor(text string, echo bool) {
	term.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if strings.Contains(term.screen(), text) && term.echoes() == echo {
			return
		}
	}
	term.t.Fatalf("the terminal does not show %q with echo %v: %q", text, echo, term.screen())
}

func (term *terminal) write(keys string) {
	term.t.Helper()
	if _, err := io.WriteString(term.pty, keys); err != nil {
		term.t.Fatal(err)
	}
}

func (term *terminal) echoes() bool {
	state, err := unix.IoctlGetTermios(int(term.pty.Fd()), unix.TCGETS)
	if err != nil {
		term.t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// exitCode waits for the program's end.
func (term *terminal) exitCode() int {
	err := term.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		term.t.Fatal(err)
	}
	return term.cmd.ProcessState.ExitCode()
}

func TestPasswordIsNotShown(t *testing.T) {
	testenv.Need(t, "keychain")
	p := newPlace(t)
	term := startInTerminal(t, p.env, "login", "--registry", "127.0.0.1:5000", "--yes")
	term.waitFor("DTZ user name: ", true)
	term.write(testUser + "\n")
	term.waitFor("Password (not shown): ", false)
	term.write(testPassword + "\n")
	term.waitFor("Logged in as ", true)
	if code := term.exitCode(); code != exitOK {
		t.Errorf("exit code %d: %s", code, term.screen())
	}
	if strings.Contains(term.screen(), testPassword) {
		t.Errorf("the password is shown: %q", term.screen())
	}
}

func TestInterruptRestoresTheTerminal(t *testing.T) {
	testenv.Need(t, "keychain")
	p := newPlace(t)
	for _, at := range []struct {
		prompt string
		echo   bool
		args   []string
	}{
		{"DTZ user name: ", true, nil},
		{"Password (not shown): ", false, []string{"--username", testUser}},
	} {
		term := startInTerminal(t, p.env, append([]string{"login", "--registry", "127.0.0.1:5000", "--yes"}, at.args...)...)
		term.waitFor(at.prompt, at.echo)
		term.write("\x03")
		if code := term.exitCode(); code != exitInterrupted {
			t.Errorf("Ctrl-C at %q: exit code %d, want %d", at.prompt, code, exitInterrupted)
		}
		if !term.echoes() {
			t.Errorf("Ctrl-C at %q leaves the terminal without echo", at.prompt)
		}
	}
	if calls := p.service.Calls("/token/auth"); calls != 0 {
		t.Errorf("%d calls to the identity service", calls)
	}
}
