//go:build unix

package faults

import "syscall"

// Stop stops the process (SIGSTOP), and it keeps its locks.
func (p *Process) Stop() { p.signal(syscall.SIGSTOP) }

// Continue lets a process that was stopped go on.
func (p *Process) Continue() { p.signal(syscall.SIGCONT) }

// Interrupt is Ctrl-C.
func (p *Process) Interrupt() { p.signal(syscall.SIGINT) }

func (p *Process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Errorf("%v for process %d: %v", s, p.Pid, err)
	}
}
