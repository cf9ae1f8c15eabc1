package crash

import (
	"os"

	"golang.org/x/sys/windows"
)

// NoDumps does nothing: whoever runs as the same user on Windows may read the
// memory of a process, and Go's runtime asks Windows for no crash dump unless
// GOTRACEBACK=wer.
func NoDumps() {}

// takeStderr leaves the runtime without a handle: it looks for one each time.
func takeStderr() *os.File {
	_ = windows.SetStdHandle(windows.STD_ERROR_HANDLE, windows.InvalidHandle)
	return os.Stderr
}
