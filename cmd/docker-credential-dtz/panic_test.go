package main

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// panickingSystem is the process's own, in which looking up the variable that
// PANIC names ends in a panic with a secret in it.
func panickingSystem() system {
	at := os.Getenv("PANIC")
	secret := os.Getenv("DTZ_API_KEY")
	sys := ownSystem()
	lookup := sys.lookup
	sys.lookup = func(name string) (string, bool) {
		if name == at {
			panic(errors.New("cannot use " + secret))
		}
		return lookup(name)
	}
	return sys
}

// A panic ends the program with a line that says what to do and nothing of what
// was in memory, wherever it is.
func TestPanicShowsNoSecret(t *testing.T) {
	t.Parallel()
	const canary = "apikey-canaryinthecoalmine"
	for _, tt := range []struct{ name, at, where string }{
		{"before the verb is served", "DTZ_TIMEOUT", ".system.timeout "},
		{"while it is served, in a goroutine", "DTZ_API_KEY", "session.FromEnv"},
	} {
		cmd := exec.CommandContext(t.Context(), "panicking", "get")
		cmd.Env = []string{"HOME=" + t.TempDir(), "PANIC=" + tt.at, "DTZ_API_KEY=" + canary, "GOTRACEBACK=all", "GORACE=" + raceOptions}
		cmd.Stdin = strings.NewReader("cr.dtz.rocks")
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != exitFailure {
			t.Errorf("%s: exit code %d", tt.name, code)
		}
		text := string(out)
		if strings.Contains(text, canary) || strings.Contains(text, "0x") || !strings.HasPrefix(text, program+": internal error: a panic (*errors.errorString)\nhint: ") || !strings.Contains(text, tt.where) {
			t.Errorf("%s: it says %q", tt.name, text)
		}
	}
}
