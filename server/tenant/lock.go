package tenant

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// lockName is no context's id, so that it is no context's folder.
const lockName = ".lock"

// ErrInUse is returned by [Apps.Lock] when another process has the storage.
var ErrInUse = errors.New("the storage is in use by another process")

// Lock keeps apart, on one file system, those who serve images, who share it,
// and who collects garbage, which is exclusive. Other kinds of storage have no
// locks, and Lock does nothing. The lock ends with the process at the latest.
func (a *Apps) Lock(exclusive bool) (unlock func() error, err error) {
	c := a.config()
	root, err := rootOf(c)
	if err != nil {
		return nil, err
	}
	if c.Storage.Type() != "filesystem" {
		return func() error { return nil }, nil
	}
	if _, err := os.Stat(root); exclusive && errors.Is(err, fs.ErrNotExist) {
		return func() error { return nil }, nil // nothing is there that could be in use
	}
	if err := os.MkdirAll(root, 0o750); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(root, lockName))
	try := lock.TryRLock
	if exclusive {
		try = lock.TryLock
	}
	locked, err := try()
	if err != nil {
		return nil, fmt.Errorf("locking the storage: %w", err)
	}
	if !locked {
		return nil, fmt.Errorf("%s: %w", root, ErrInUse)
	}
	return lock.Close, nil
}
