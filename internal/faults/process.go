package faults

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Outcome is how a process ended.
type Outcome struct {
	Code           int // -1: by a signal
	Stdout, Stderr string
	Took           time.Duration
}

// Process is a helper that runs.
type Process struct {
	Pid int

	t              testing.TB
	cmd            *exec.Cmd
	began          time.Time
	stdout, stderr bytes.Buffer
	done           chan struct{} // closed when outcome is there
	outcome        Outcome
}

// Run runs the helper to its end, for at most a minute.
func (m *Machine) Run(stdin string, args ...string) Outcome {
	m.t.Helper()
	p := m.Start(strings.NewReader(stdin), args...)
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		p.Kill()
		m.t.Errorf("%s %q did not end within a minute", program, args)
	}
	return p.Wait()
}

// Start starts the helper. A stdin of nil is empty; whatever else it is need not
// end. The process does not outlive the test.
func (m *Machine) Start(stdin io.Reader, args ...string) *Process {
	m.t.Helper()
	p := &Process{t: m.t, cmd: exec.Command(Program(m.t), args...), done: make(chan struct{})}
	p.cmd.Env, p.cmd.Dir = m.environ(), m.Home
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = stdin, &p.stdout, &p.stderr
	p.cmd.WaitDelay = time.Second // for an input that does not end, and a grandchild that keeps the output open
	p.began = time.Now()
	if err := p.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	p.Pid = p.cmd.Process.Pid
	go p.await()
	m.t.Cleanup(func() {
		p.Kill()
		p.Wait()
	})
	return p
}

func (p *Process) await() {
	defer close(p.done)
	err := p.cmd.Wait()
	p.outcome.Took = time.Since(p.began)
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		p.t.Error(err)
	}
	p.outcome.Code = p.cmd.ProcessState.ExitCode()
	p.outcome.Stdout, p.outcome.Stderr = p.stdout.String(), p.stderr.String()
}

// Kill ends the process at once (SIGKILL). One that has ended stays so.
func (p *Process) Kill() {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Error(err)
	}
}

// Wait waits for the end of the process, however long that takes.
func (p *Process) Wait() Outcome {
	<-p.done
	return p.outcome
}

// WaitUntil is Wait until ctx ends: then ok is false.
func (p *Process) WaitUntil(ctx context.Context) (o Outcome, ok bool) {
	select {
	case <-p.done:
		return p.outcome, true
	case <-ctx.Done():
		return Outcome{}, false
	}
}
