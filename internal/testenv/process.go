package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// Start starts cmd as a child that does not outlive the test binary, where the
// system can promise that. stop ends it, first with a request and after ten
// seconds without one, and returns once it is gone; calling it again does
// nothing.
func Start(cmd *exec.Cmd) (stop func(), err error) {
	dieWithParent(cmd)
	cmd.WaitDelay = time.Second // a grandchild may keep the output open
	started, gone := make(chan error), make(chan struct{})
	go func() {
		// Linux sends the parent-death signal when the *thread* that forked
		// ends (prctl(2), PR_SET_PDEATHSIG): keep it for as long as the child.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is nobody's question
		}
		close(gone)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return func() {
		_ = terminate(cmd.Process) // fails when it is gone already
		select {
		case <-gone:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-gone
		}
	}, nil
}

// shortDir is a new private folder whose path leaves room for the name of a
// Unix socket, which is 107 bytes at most (unix(7)).
func shortDir() (string, error) {
	parent := os.TempDir()
	if len(parent) > 40 {
		parent = filepath.Join(string(filepath.Separator), "tmp")
	}
	return os.MkdirTemp(parent, "dtz-test-")
}
