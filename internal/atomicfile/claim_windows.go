package atomicfile

import (
	"os"
	"time"
)

const renamesOpenFiles = false

// claim has nothing to do: a file that is open cannot be removed.
func claim(*os.File) bool { return true }

// removeAbandoned removes a temporary file that nobody has open. For a moment
// before it is renamed a living writer has not, either.
func removeAbandoned(path string) {
	if info, err := os.Lstat(path); err == nil && time.Since(info.ModTime()) > time.Minute {
		_ = os.Remove(path)
	}
}
