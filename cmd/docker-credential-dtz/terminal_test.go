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
	t       *testing.T
	pty     *os.File // the person's end
	program *os.File // the program's end
	cmd     *exec.Cmd
	// state before the program began and when it had ended
	before, after unix.Termios

	drained chan struct{} // closed with all that was written read
	mu      sync.Mutex
	shown   bytes.Buffer
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
	t.Cleanup(func() { _ = program.Close() })
	term := &terminal{t: t, pty: person, program: program, cmd: cmd, drained: make(chan struct{})}
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
	go func() {
		defer close(term.drained)
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

// exitCode waits for the program's end, and for all that it has written.
func (term *terminal) exitCode() int {
	term.t.Helper()
	err := term.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		term.t.Fatal(err)
	}
	term.after = term.state()
	_ = term.program.Close() // the last one, so that reading ends; the state goes with it
	<-term.drained
	return term.cmd.ProcessState.ExitCode()
}

// checkRestored checks that a shell could go on in the terminal, the program
// having ended.
func (term *terminal) checkRestored() {
	term.t.Helper()
	if term.after != term.before {
		term.t.Errorf("the terminal's state was %+v and is %+v", term.before, term.after)
	}
	if !strings.HasSuffix(term.screen(), "\n") {
		term.t.Errorf("the cursor is not at the beginning of a line: %q", term.screen())
	}
}
