//go:build unix

package crash

import (
	"os"

	"golang.org/x/sys/unix"
)

func noCore() { _ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) }

// takeStderr makes do with a single descriptor, as there may be no other. Where
// there is none nobody is told anything: such a process can open nothing either.
func takeStderr() *os.File {
	const stderr = 2
	taken := os.Stderr
	if fd, err := unix.FcntlInt(stderr, unix.F_DUPFD_CLOEXEC, stderr+1); err == nil {
		taken = os.NewFile(uintptr(fd), os.Stderr.Name())
	}
	// What is opened next takes its place: the runtime sees to it that 0 and 1 are
	// taken. It must not be a file of ours, for the runtime writes there. [os.Open]
	// would want descriptors for its poller, and end the process for want of them.
	_ = unix.Close(stderr)
	if _, err := unix.Open(os.DevNull, unix.O_WRONLY, 0); err != nil {
		_, _ = unix.Open("/", unix.O_RDONLY, 0) // nothing can be written to it
	}
	return taken
}
