package private

import (
	"context"
	"errors"
	"os"
	"path/filepath"
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
