package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/atomicfile"
)

// Slot is what the processes of one user share about one credential that is
// renewed: whose turn it is, and how the last renewal failed. It holds no
// secret.
type Slot struct {
	path string // without its suffix; empty: nothing is shared
}

// LoginSlot is the slot of a login, below the state folder. Where there is
// none, nothing is shared.
func LoginSlot(stateDir string, key Key) Slot {
	if stateDir == "" {
		return Slot{}
	}
	return Slot{filepath.Join(stateDir, "locks", key.id())}
}

// pollLock is how often a process that waits for its turn looks.
const pollLock = 10 * time.Millisecond

// Lock waits for the slot until ctx ends or giveUp, which is asked at each
// look, says that waiting has become pointless. The lock ends with the process,
// however that ends.
func (s Slot) Lock(ctx context.Context, giveUp func() bool) (unlock func(), err error) {
	if s.path == "" {
		return func() {}, nil
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return nil, fmt.Errorf("locking: %w", err)
	}
	lock := flock.New(s.path+".lock", flock.SetPermissions(0o600))
	for {
		locked, err := lock.TryLock()
		if err != nil {
			return nil, fmt.Errorf("locking: %w", err)
		}
		if locked {
			return func() { _ = lock.Unlock() }, nil
		}
		if giveUp != nil && giveUp() {
			return nil, ErrGaveUp
		}
		select {
		case <-ctx.Done():
			return nil, ErrBusy
		case <-time.After(pollLock):
		}
	}
}

var (
	// ErrBusy is returned by [Slot.Lock] when ctx ended before the slot was free.
	ErrBusy = errors.New("another docker-credential-dtz is renewing this login and has not finished")
	// ErrGaveUp is returned by [Slot.Lock] when giveUp said so.
	ErrGaveUp = errors.New("gave up waiting for the lock")
)

// Failure is how a renewal failed.
type Failure struct {
	At   time.Time `json:"at"`   // when it was over
	Kind string    `json:"kind"` // what it means, for whoever shares it
	Why  string    `json:"why"`  // for people
}

// Failure returns how the last renewal failed, if it did.
func (s Slot) Failure() (Failure, bool) {
	var f Failure
	if s.path == "" {
		return f, false
	}
	data, err := os.ReadFile(s.path + ".failure")
	if err != nil || json.Unmarshal(data, &f) != nil {
		return Failure{}, false // a note that is lost costs one more try
	}
	return f, true
}

// SetFailure notes how a renewal failed. The caller holds the lock.
func (s Slot) SetFailure(f Failure) error {
	if s.path == "" {
		return nil
	}
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return atomicfile.Write(s.path+".failure", data)
}

// ClearFailure forgets it. The caller holds the lock.
func (s Slot) ClearFailure() {
	if s.path != "" {
		_ = os.Remove(s.path + ".failure")
	}
}
