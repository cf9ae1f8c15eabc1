package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// place is where a test runs the real program as a process of its own: a world,
// a throw-away home and an environment.
type place struct {
	*world
	t       testing.TB
	program string // its name or path
	home    string
	env     []string
}

func newPlace(t testing.TB) *place {
	t.Helper()
	dir := t.TempDir()
	p := &place{world: newWorld(t, dir), t: t, program: program, home: filepath.Join(dir, "home")}
	if err := os.MkdirAll(p.home, 0o700); err != nil {
		t.Fatal(err)
	}
	p.env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir, "GORACE=" + raceOptions}
	for name, value := range keychainEnv {
		p.setenv(name, value)
	}
	for name, value := range p.registries.env() {
		p.setenv(name, value)
	}
	p.setenv("HOME", p.home)
	p.setenv("DTZ_IDENTITY_URL", p.url())
	p.setenv("DTZ_TEST_CLOCK", p.clock)
	return p
}

func (p *place) setenv(name, value string) { p.env = append(p.env, name+"="+value) }

func (p *place) moveClock(step time.Duration) {
	p.t.Helper()
	if err := os.WriteFile(p.clock, []byte((readOffset(p.clock) + step).String()), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// outcome is what a process wrote and how it ended.
type outcome struct {
	stdout, stderr string
	code           int
}

// run runs the program to its end.
func (p *place) run(stdin string, args ...string) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = p.env, strings.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Error(err)
	}
	return outcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// login logs alice in for 127.0.0.1:5000.
func (p *place) login(flags ...string) {
	p.t.Helper()
	args := append([]string{"login", "--registry", "127.0.0.1:5000", "--yes", "--username", testUser, "--password-stdin"}, flags...)
	if o := p.run(testPassword, args...); o.code != exitOK {
		p.t.Fatalf("login: %+v", o)
	}
}
