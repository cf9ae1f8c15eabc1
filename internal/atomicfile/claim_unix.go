//go:build unix

package atomicfile

import (
	"errors"
	"os"
	"syscall"
)

const renamesOpenFiles = true

// claim locks a temporary file for as long as its writer lives (flock(2)). It
// returns false if a sweep has the file already. Where there are no locks
// nothing is swept.
func claim(f *os.File) bool {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false
	}
	mine, err := f.Stat()
	if err != nil {
		return true
	}
	named, err := os.Lstat(f.Name())
	return err == nil && os.SameFile(mine, named)
}

// removeAbandoned removes a temporary file that no writer has locked.
func removeAbandoned(path string) {
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer f.Close()
	// Was it renamed just now, the lock is had and the name is gone.
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		_ = os.Remove(path)
	}
}
