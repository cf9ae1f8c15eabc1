//go:build unix

package crash

import (
	"os"

	"golang.org/x/sys/unix"
)

func noCore() { _ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) }

func takeStderr() *os.File {
	const stderr = 2
	fd, err := unix.FcntlInt(stderr, unix.F_DUPFD_CLOEXEC, stderr+1)
	if err != nil {
		return os.Stderr
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err == nil {
		_ = unix.Dup2(int(null.Fd()), stderr)
		_ = null.Close()
	}
	return os.NewFile(uintptr(fd), os.Stderr.Name())
}
