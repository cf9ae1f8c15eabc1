package private

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

func quicker(t *testing.T) {
	beforePulse, beforeSilence := pulse, silence
	pulse, silence = 20*time.Millisecond, 2*time.Second
	t.Cleanup(func() { pulse, silence = beforePulse, beforeSilence })
}

func TestOneThatLivesIsWaitedFor(t *testing.T) {
	quicker(t)
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(silence+time.Second, unlock)
	unlock, err = Lock(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if _, err := os.Stat(holderFile(path)); err == nil {
		t.Error("who had the lock is still noted")
	}
}

func TestOneWithoutASignOfLifeIsNot(t *testing.T) {
	quicker(t)
	path := filepath.Join(t.TempDir(), "lock")
	stopped := flock.New(path)
	if locked, err := stopped.TryLock(); !locked {
		t.Fatal(err)
	}
	defer stopped.Close()
	if err := os.WriteFile(holderFile(path), []byte("4711\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var stuck *StuckError
	if _, err := Lock(t.Context(), path, nil); !errors.As(err, &stuck) || stuck.Process != 4711 {
		t.Errorf("Lock = %v, want to be told of process 4711", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Lock(ctx, path, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Lock = %v, want the context's error", err)
	}
}

func TestQueueLetsOneInAfterAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue")
	inside := make(chan struct{}, 1)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			done := Queue(t.Context(), path)
			select {
			case inside <- struct{}{}:
				time.Sleep(5 * time.Millisecond)
				<-inside
			default:
				t.Error("two at the same time")
			}
			done()
		})
	}
	wg.Wait()
}

func TestQueueThatDoesNotMoveHoldsNobodyForLong(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue")
	done := Queue(t.Context(), path)
	Queue(t.Context(), path)() // returns: the test would hang
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	Queue(ctx, path)()
	done()
	began := time.Now()
	Queue(t.Context(), path)()
	if took := time.Since(began); took > unmoved {
		t.Errorf("it moves again, and one waits for %v", took)
	}
	Queue(t.Context(), filepath.Join(path, "is a file"))()
}
