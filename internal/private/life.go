package private

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/crash"
)

var (
	pulse   = 500 * time.Millisecond // between two signs of life of whoever has a lock
	silence = 5 * time.Second        // after which one without any is taken for stopped
)

// StuckError says that whoever has a lock has shown no sign of life for five
// seconds.
type StuckError struct {
	Process int // 0 if it is not known
}

func (e *StuckError) Error() string {
	who := "another docker-credential-dtz"
	if e.Process != 0 {
		who = fmt.Sprintf("%s, process %d,", who, e.Process)
	}
	return who + " is busy with it and shows no sign of life (is it stopped?)"
}

// holderFile holds the process id of whoever has the lock at path; the time of
// its change is the last sign of life. Windows lets nobody read the lock itself.
func holderFile(path string) string { return path + ".holder" }

// live shows signs of life until stop.
func live(path string) (stop func()) {
	path = holderFile(path)
	_ = os.Remove(path) // of one that was killed
	if f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
		Give(f)
		_, _ = f.WriteString(strconv.Itoa(os.Getpid()) + "\n")
		_ = f.Close()
	}
	every, done, gone := pulse, make(chan struct{}), make(chan struct{})
	go func() {
		defer crash.Guard()
		defer close(gone)
		for {
			select {
			case <-done:
				_ = os.Remove(path)
				return
			case now := <-time.After(every):
				_ = os.Chtimes(path, now, now)
			}
		}
	}()
	return func() {
		close(done)
		<-gone
	}
}

func lastSign(path string) time.Time { return lastMove(holderFile(path)) }

func holder(path string) (process int) {
	data, err := Read(holderFile(path), 32)
	if err != nil {
		return 0
	}
	process, _ = strconv.Atoi(strings.TrimSpace(string(data)))
	return max(process, 0)
}
