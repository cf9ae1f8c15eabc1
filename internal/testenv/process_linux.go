package testenv

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
)

func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
}

func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

// removeMounted removes dir and what is mounted in it.
func removeMounted(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var below []string
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line) // the fifth is the mount point (proc_pid_mountinfo(5))
		if len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			below = append(below, fields[4])
		}
	}
	for _, point := range slices.Backward(below) { // mounted last, unmounted first
		_ = syscall.Unmount(point, syscall.MNT_DETACH)
	}
	return os.RemoveAll(dir)
}
