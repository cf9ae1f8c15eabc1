//go:build linux

package faults

import (
	"encoding/binary"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// writes counts what changes in a folder (inotify(7)).
type writes struct {
	mu    sync.Mutex
	seen  int
	limit int
	hit   chan struct{} // closed when seen has reached limit
}

func watch(t *testing.T, dir string) *writes {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	t.Cleanup(func() { events.Close() })
	const changes = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_CLOSE_WRITE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_DELETE
	if _, err := unix.InotifyAddWatch(fd, dir, changes); err != nil {
		t.Fatalf("watching %s: %v", dir, err)
	}
	w := &writes{}
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := events.Read(buf)
			if err != nil {
				return // closed
			}
			count := 0
			for rest := buf[:n]; len(rest) >= unix.SizeofInotifyEvent; count++ {
				rest = rest[unix.SizeofInotifyEvent+binary.NativeEndian.Uint32(rest[12:16]):] // the name's length
			}
			w.add(count)
		}
	}()
	return w
}

func (w *writes) add(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen += n
	if w.hit != nil && w.seen >= w.limit {
		close(w.hit)
		w.hit = nil
	}
}

func (w *writes) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

// reach is closed when so many changes have been counted.
func (w *writes) reach(limit int) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	hit := make(chan struct{})
	w.limit, w.hit = limit, hit
	if w.seen >= limit {
		close(hit)
		w.hit = nil
	}
	return hit
}
