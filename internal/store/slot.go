package store

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/atomicfile"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/private"
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

// Lock waits for the slot until ctx ends or giveUp says that waiting has become
// pointless, as [private.Lock] has it.
func (s Slot) Lock(ctx context.Context, giveUp func() bool) (unlock func(), err error) {
	if s.path == "" {
		return func() {}, nil
	}
	unlock, err = private.Lock(ctx, s.path+".lock", giveUp)
	var stuck *StuckError
	switch {
	case errors.As(err, &stuck):
		return nil, err
	case errors.Is(err, private.ErrGaveUp):
		return nil, ErrGaveUp
	case err != nil && ctx.Err() != nil:
		return nil, ErrBusy
	case err != nil:
		return nil, err
	}
	return unlock, nil
}

var (
	// ErrBusy is returned by [Slot.Lock] when ctx ended before the slot was free.
	ErrBusy = errors.New("another docker-credential-dtz is renewing this login and has not finished")
	// ErrGaveUp is returned by [Slot.Lock] when giveUp said so.
	ErrGaveUp = errors.New("gave up waiting for the lock")
)

// StuckError says that whoever has the slot does nothing.
type StuckError = private.StuckError

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
	data, err := private.Read(s.path+".failure", maxFile)
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

// Renewed is another string after each renewal that worked, so that all who wait
// for one see that it is over at the same time.
func (s Slot) Renewed() string {
	if s.path == "" {
		return ""
	}
	data, _ := private.Read(s.path+".renewed", 64)
	return string(data)
}

// SetRenewed notes that a renewal worked. The caller holds the lock.
func (s Slot) SetRenewed(at time.Time) {
	if s.path != "" {
		// Lost, it has those who wait look one after another.
		_ = atomicfile.Write(s.path+".renewed", []byte(at.Format(time.RFC3339Nano)+"\n"))
	}
}
