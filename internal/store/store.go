// Package store keeps logins at rest, in the operating system's keychain or in
// a file, and the shared state of their renewal: locks and what the last
// renewal ended in. It makes no network calls.
package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// Key names one login.
type Key struct {
	Identity string // base URL of the identity service
	Profile  string
}

// id is the key in file names: a hash, because a URL is none.
func (k Key) id() string {
	sum := sha256.Sum256([]byte(k.Identity + "\x00" + k.Profile))
	return hex.EncodeToString(sum[:8])
}

// Store keeps logins.
type Store interface {
	// Load returns the login, or [ErrNotFound]. It takes no lock: a renewal by
	// another process is seen before or after, never in part.
	Load(ctx context.Context, key Key) (*Login, error)
	// Save replaces the login. Its last step is one write of one record: killed
	// at any moment, the old login or the new one is there, whole. The caller
	// holds the login's [Slot].
	Save(ctx context.Context, key Key, login *Login) error
	// Delete removes the login and all that belongs to it; nothing there is no
	// error. The caller holds the login's [Slot].
	Delete(ctx context.Context, key Key) error
	// Where says to people every place where the login's secrets lie.
	Where(key Key) []string
}

// Names of the two stores, as DTZ_STORE and config.json spell them.
const (
	KeychainName = "keychain"
	FileName     = "file"
)

// ErrNotFound is returned by [Store.Load] when there is no such login.
var ErrNotFound = errors.New("no login")

// UnavailableError says that the store cannot be used now, and why. The login
// in it, if any, is untouched.
type UnavailableError struct {
	Store  string // keychain or file
	Why    string
	Reason Reason // of a keychain
	Err    error  // the cause, if there is one
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("%s out of reach: %s", e.Store, e.Why)
}

func (e *UnavailableError) Unwrap() error { return e.Err }

// DamagedError says that a record is there and cannot be read as a login. A new
// login replaces it.
type DamagedError struct {
	Where string
	Why   string
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("the login in %s cannot be read: %s", e.Where, e.Why)
}
