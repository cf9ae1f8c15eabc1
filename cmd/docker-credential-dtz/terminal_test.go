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
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// terminal is a person's, with the program in it.
type terminal struct {
	t      *testing.T
	pty    *os.File
	cmd    *exec.Cmd
	before unix.Termios

	mu    sync.Mutex
	shown bytes.Buffer
}

func startInTerminal(t *testing.T, env []string, args ...string) *terminal {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = env
	return startCommandInTerminal(t, cmd)
}

// startCommandInTerminal gives the command the terminal for each stream that it
// has not been given yet.
func startCommandInTerminal(t *testing.T, cmd *exec.Cmd) *terminal {
	t.Helper()
	person, program, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = person.Close() })
	term := &terminal{t: t, pty: person, cmd: cmd}
	term.before = term.state()
	if cmd.Stdin == nil {
		cmd.Stdin = program
	}
	if cmd.Stdout == nil {
		cmd.Stdout = program
	}
	if cmd.Stderr == nil {
		cmd.Stderr = program
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// Ours stays open until the end: with the last one closed, the state is gone.
	t.Cleanup(func() { _ = program.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := person.Read(buf)
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

// eventually waits until the terminal is as it should be.
func (term *terminal) eventually(what string, is func(screen string) bool) {
	term.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if is(term.screen()) {
			return
		}
	}
	term.t.Fatalf("%s, and not %q", what, term.screen())
}

// waitFor waits until the terminal shows text, and is ready for an answer that
// is not to be shown.
func (term *terminal) waitFor(text string, echo bool) {
	term.t.Helper()
	term.eventually("the terminal should show "+text, func(screen string) bool {
		return strings.Contains(screen, text) && term.echoes() == echo
	})
}

func (term *terminal) write(keys string) {
	term.t.Helper()
	if _, err := io.WriteString(term.pty, keys); err != nil {
		term.t.Fatal(err)
	}
}

func (term *terminal) state() unix.Termios {
	term.t.Helper()
	state, err := unix.IoctlGetTermios(int(term.pty.Fd()), unix.TCGETS)
	if err != nil {
		term.t.Fatal(err)
	}
	return *state
}

func (term *terminal) echoes() bool { return term.state().Lflag&unix.ECHO != 0 }

// exitCode waits for the program's end.
func (term *terminal) exitCode() int {
	term.t.Helper()
	err := term.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		term.t.Fatal(err)
	}
	return term.cmd.ProcessState.ExitCode()
}

// checkRestored checks that a shell could go on in the terminal.
func (term *terminal) checkRestored() {
	term.t.Helper()
	if after := term.state(); after != term.before {
		term.t.Errorf("the terminal's state was %+v and is %+v", term.before, after)
	}
	term.eventually("the cursor should be at the beginning of a line", func(screen string) bool {
		return strings.HasSuffix(screen, "\n")
	})
}
