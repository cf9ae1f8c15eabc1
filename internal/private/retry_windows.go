package private

import (
	"errors"
	"time"

	"golang.org/x/sys/windows"
)

// patience is far more than the moment for which another process has the file
// open, and what an access that is really denied costs.
const patience = time.Second

// Retry runs op again while it fails because others use the same file: where
// somebody reads a file nobody can rename another one over it, and while it is
// renamed or removed nobody can open it (CreateFileW, "Sharing violation";
// MoveFileExW says "Access is denied" too).
func Retry(op func() error) error {
	for end := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		err := op()
		inUse := errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_ACCESS_DENIED)
		if !inUse || time.Now().After(end) {
			return err
		}
	}
}
