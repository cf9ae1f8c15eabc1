package private

import (
	"context"
	"os"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/crash"
)

const unmoved = 2 * time.Second // after which a queue is left for what is at its end

// Queue waits until whoever came before is done at path, so that many come one
// after another. It is a courtesy and protects nothing: where the queue does not
// move for two seconds, where ctx ends, or where there can be no queue, it returns
// all the same. Done lets the next one in.
func Queue(ctx context.Context, path string) (done func()) {
	lock, err := openLock(path)
	if err != nil {
		return func() {}
	}
	done = func() {
		now := time.Now()
		_ = os.Chtimes(path, now, now) // it moves
		_ = lock.Unlock()
	}
	if first, err := lock.TryLock(); first || err != nil {
		return done
	}
	turn, gone := make(chan struct{}), make(chan struct{})
	go func() { // the kernel wakes one at a time, in order: two hundred need not look again and again
		defer crash.Guard()
		if lock.Lock() != nil {
			return
		}
		select {
		case turn <- struct{}{}:
		case <-gone:
			_ = lock.Unlock()
		}
	}()
	moved, seen := lastMove(path), time.Now()
	for {
		select {
		case <-turn:
			return done
		case <-time.After(unmoved / 4):
			if now := lastMove(path); !now.Equal(moved) {
				moved, seen = now, time.Now()
				continue
			}
			if time.Since(seen) < unmoved {
				continue
			}
		case <-ctx.Done():
		}
		close(gone)
		return func() {}
	}
}

func lastMove(path string) time.Time {
	info, err := os.Lstat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
