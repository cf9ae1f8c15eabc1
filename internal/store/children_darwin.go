package store

import (
	"os"

	"golang.org/x/sys/unix"
)

// childrenCalled are the processes that this one has started from a program of
// that name (sysctl(3), KERN_PROC_UID).
func childrenCalled(name string) (pids []int) {
	processes, err := unix.SysctlKinfoProcSlice("kern.proc.uid", os.Geteuid())
	if err != nil {
		return nil
	}
	for _, p := range processes {
		if int(p.Eproc.Ppid) == os.Getpid() && unix.ByteSliceToString(p.Proc.P_comm[:]) == name {
			pids = append(pids, int(p.Proc.P_pid))
		}
	}
	return pids
}
