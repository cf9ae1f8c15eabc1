package private

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// How often a process that waits for its turn looks: first, and in the end. Many
// may wait for one.
const (
	firstLook = 10 * time.Millisecond
	lastLook  = 100 * time.Millisecond
)

// ErrGaveUp is returned by [Lock] when giveUp said so.
var ErrGaveUp = errors.New("gave up waiting for the lock")

// Lock waits until this process is the only one that has the lock at path, which
// it makes, and its folder, where they are missing. The lock ends with the
// process, however that ends. It waits until ctx ends, which is the error then,
// or giveUp, which is asked at each look, says that waiting has become
// pointless; nil never does. From one that shows no sign of life it takes
// nothing, since that may go on at any time: after five seconds it returns a
// [*StuckError].
//
// Where the file system knows no locks, nobody waits for anybody: a network
// mount is no reason to have no login. See [HasLocks].
func Lock(ctx context.Context, path string, giveUp func() bool) (unlock func(), err error) {
	lock, err := openLock(path)
	if err != nil {
		return nil, err
	}
	sign, seen := lastSign(path), time.Now()
	for look := firstLook; ; look = min(look+firstLook, lastLook) {
		locked, err := lock.TryLock()
		switch {
		case noLocks(err):
			return func() {}, nil
		case err != nil && !errors.Is(err, syscall.EINTR): // NFS has flock interrupted
			return nil, lockError(path, err)
		case locked:
			stop := live(path)
			return func() {
				stop()
				_ = lock.Unlock()
			}, nil
		}
		if giveUp != nil && giveUp() {
			return nil, ErrGaveUp
		}
		// Only whether it changes counts: clocks can be set.
		if now := lastSign(path); !now.Equal(sign) {
			sign, seen = now, time.Now()
		} else if time.Since(seen) > silence {
			return nil, &StuckError{holder(path)}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(look):
		}
	}
}

// HasLocks reports whether the file system knows the lock at path, which it
// tries, and makes, and its folder, where they are missing. The error says why no
// lock could be tried.
func HasLocks(path string) (bool, error) {
	lock, err := openLock(path)
	if err != nil {
		return false, err
	}
	defer lock.Close()
	if _, err := lock.TryLock(); noLocks(err) {
		return false, nil
	} else if err != nil {
		return false, lockError(path, err)
	}
	return true, nil
}

func lockError(path string, err error) error {
	if errors.Is(err, syscall.ELOOP) {
		return linked(path, err)
	}
	if open, ok := errors.AsType[*fs.PathError](err); ok {
		err = open.Err // it names the same path
	}
	return fmt.Errorf("locking %s: %w", path, err)
}

// openLock opens no file through a link, and waits for no pipe.
func openLock(path string) (*flock.Flock, error) {
	if err := MkdirAll(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0o600); err == nil {
		Give(f)
		_ = f.Close()
	}
	return flock.New(path, flock.SetFlag(os.O_RDONLY|os.O_CREATE|noFollow|nonBlock), flock.SetPermissions(0o600)), nil
}

// noLocks reports whether err, of flock(2), comes from a file system that has no
// locks: NFS without its lock daemon, Lustre without -o flock, some of FUSE.
func noLocks(err error) bool {
	return errors.Is(err, syscall.ENOLCK) || errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported)
}
