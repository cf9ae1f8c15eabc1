//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/creack/pty"
)

func TestStyle(t *testing.T) {
	person, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer person.Close()
	defer tty.Close()
	plain := "word ok warning FAILED"
	colour := "\x1b[1mword\x1b[0m \x1b[32m✓\x1b[0m \x1b[33m!\x1b[0m \x1b[31m✗\x1b[0m"
	for _, tt := range []struct {
		name string
		to   io.Writer
		env  map[string]string
		want string
	}{
		{"a terminal", tty, map[string]string{"TERM": "xterm", "LANG": "de_DE.UTF-8"}, colour},
		{"a terminal, as macOS spells the charset", tty, map[string]string{"LC_CTYPE": "UTF-8"}, colour},
		{"a terminal without UTF-8", tty, map[string]string{"LANG": "en_US.UTF-8", "LC_ALL": "C"}, "\x1b[1mword\x1b[0m ok warning FAILED"},
		{"a dumb terminal", tty, map[string]string{"TERM": "dumb", "LANG": "C.UTF-8"}, plain},
		{"NO_COLOR", tty, map[string]string{"NO_COLOR": "1", "LANG": "C.UTF-8"}, plain},
		{"NO_COLOR, set but empty", tty, map[string]string{"NO_COLOR": "", "LANG": "C.UTF-8"}, colour},
		{"a pipe", new(bytes.Buffer), map[string]string{"TERM": "xterm", "LANG": "C.UTF-8"}, plain},
	} {
		sys := system{lookup: func(name string) (string, bool) { value, set := tt.env[name]; return value, set }}
		st := sys.styleFor(tt.to)
		got := strings.Join([]string{st.bold("word"), st.mark(stateGood), st.mark(stateWarn), st.mark(stateBad)}, " ")
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// What is shown may come from anybody: a file, a variable, a server.
func TestOneLine(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"words of all kinds", "docker push cr.dtz.rocks/äpp ✓", "docker push cr.dtz.rocks/äpp ✓"},
		{"a tab", "\t\"a\"", "\t\"a\""},
		{"another line", "a\r\nb", "a  b"},
		{"a terminal's title", "\x1b]0;owned\a", " ]0;owned "},
		{"a clear screen", "a\x1b[2Jb\x1b[1;1H", "a [2Jb [1;1H"},
		{"hidden text", "\x1b[8mb", " [8mb"},
		{"a style's own sequences", "\x1b[32ma\x1b[0m", " [32ma [0m"},
		{"C1, in UTF-8 and as a byte", "\u009b2J\x9b2J", " 2J\ufffd2J"},
		{"text turned around", "a\u202eb\u2066c", "a\ufffdb\ufffdc"},
		{"what cannot be seen", "a\u200bb\ue000", "a\ufffdb\ufffd"},
	} {
		if got := oneLine(tt.text); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		if got, want := (style{color: true}).bold(tt.text), "\x1b[1m"+tt.want+"\x1b[0m"; got != want {
			t.Errorf("%s, set off: %q, want %q", tt.name, got, want)
		}
	}
}

// A terminal gets colours from a style, and none from the text that is shown.
func TestOnlyAStyleSetsOff(t *testing.T) {
	person, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer person.Close()
	defer tty.Close()
	sys := system{stderr: tty, console: &console{verbose: true}, lookup: func(string) (string, bool) { return "", false }}
	const hostile = "\x1b[32mgood\x1b[0m\n"
	st := sys.styleFor(tty)
	shown := bufio.NewReader(person)
	for _, tt := range []struct {
		name string
		show func()
		want string
	}{
		{"text", func() { sys.say("%s: %d of %s", hostile, 3, styled(st.bold("mine"))) }, " [32mgood [0m : 3 of \x1b[1mmine\x1b[0m"},
		{"an error", func() { sys.say("it failed: %v", errors.New(hostile)) }, "it failed:  [32mgood [0m "},
		{"text in quotes", func() { sys.say("%q", hostile) }, `"\x1b[32mgood\x1b[0m\n"`},
		{"text in a style", func() { sys.say("%s", styled(st.bold(hostile))) }, "\x1b[1m [32mgood [0m \x1b[0m"},
		{"a warning", func() { sys.warn(hostile) }, program + ":  [32mgood [0m "},
		{"a trace", func() { sys.trace("%s", hostile) }, "\x1b[2m*  [32mgood [0m \x1b[0m"},
	} {
		tt.show()
		got, err := shown.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if got = strings.TrimRight(got, "\r\n"); got != tt.want {
			t.Errorf("%s: the terminal gets %q, want %q", tt.name, got, tt.want)
		}
	}
}

// Each stream is judged by itself: colours on one say nothing of the other.
func TestStyleOfEachStream(t *testing.T) {
	person, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer person.Close()
	defer tty.Close()
	sys := system{stdout: new(bytes.Buffer), stderr: tty, lookup: func(string) (string, bool) { return "", false }}
	if sys.styleFor(sys.stdout).color || !sys.styleFor(sys.stderr).color {
		t.Error("standard output is a pipe and standard error a terminal")
	}
}

// A line that moves shows nothing of what is over at once, counts seconds, makes
// way for other lines, and leaves nothing behind.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		sys := system{stderr: &out, console: &console{}, lookup: func(string) (string, bool) { return "", false }}
		screen := func() string { // while it moves
			sys.console.mu.Lock()
			defer sys.console.mu.Unlock()
			return rendered(t, out.String())
		}

		done := sys.progress(t.Context(), "Waiting", patienceUnseen)
		time.Sleep(patienceUnseen / 2)
		done()
		if out.Len() != 0 {
			t.Errorf("what is over at once shows %q", &out)
		}

		done = sys.progress(t.Context(), "Waiting", 0)
		time.Sleep(3*time.Second + frameTime/2)
		sys.warn("something else")
		shown := screen()
		if shown != program+": something else\n" {
			t.Errorf("another line leaves %q", shown)
		}
		time.Sleep(2 * time.Second)
		if shown := screen(); !strings.HasSuffix(shown, " Waiting 5s") {
			t.Errorf("after five seconds it shows %q", shown)
		}
		done()
		done() // as a deferred call behind one that came first
		if shown := screen(); shown != program+": something else\n" {
			t.Errorf("it leaves %q", shown)
		}

		out.Reset()
		ctx, cancel := context.WithCancel(t.Context())
		done = sys.progress(ctx, "Waiting", 0)
		time.Sleep(time.Second)
		cancel()
		synctest.Wait()
		if shown := screen(); shown != "" {
			t.Errorf("an interruption leaves %q", shown)
		}
		done()

		out.Reset()
		sys.prompt("Password: ", false)
		done = sys.progress(t.Context(), "Waiting", 0)
		time.Sleep(frameTime / 2)
		if shown, want := screen(), "Password: \n| Waiting"; shown != want {
			t.Errorf("below a prompt that was not answered it shows %q, want %q", shown, want)
		}
		time.Sleep(frameTime)
		done()
		sys.warn("something else")
		if shown, want := screen(), "Password: \n"+program+": something else\n"; shown != want {
			t.Errorf("below a prompt that was not answered it makes way for %q, want %q", shown, want)
		}

		out.Reset()
		sys.console.quiet = true
		done = sys.wait(t.Context(), "Waiting")
		time.Sleep(time.Second)
		done()
		if out.Len() != 0 {
			t.Errorf("--quiet shows %q", &out)
		}
		sys.console.quiet = false
		done = sys.wait(t.Context(), "Waiting")
		time.Sleep(time.Second)
		done()
		if got, want := out.String(), "Waiting ...\n"; got != want {
			t.Errorf("a pipe gets %q, want %q", got, want)
		}
	})
}

// A line longer than the terminal is wide could not be wiped away.
func TestProgressFitsTheTerminal(t *testing.T) {
	t.Parallel()
	person, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer person.Close()
	defer tty.Close()
	if err := pty.Setsize(person, &pty.Winsize{Rows: 5, Cols: 20}); err != nil {
		t.Fatal(err)
	}
	sys := system{stderr: tty}
	if got, want := cut("| Waiting for the identity service 12s", sys.width()), "| Waiting for the i"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// rendered is what a terminal shows of text, as far as the program uses it.
func rendered(t *testing.T, text string) string {
	t.Helper()
	var shown strings.Builder
	for line := range strings.Lines(text) {
		parts := strings.Split(line, eraseLine)
		shown.WriteString(parts[len(parts)-1])
	}
	if strings.Contains(shown.String(), "\x1b") {
		t.Errorf("%q holds other escape sequences", text)
	}
	return shown.String()
}
