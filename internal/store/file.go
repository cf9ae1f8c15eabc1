package store

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/atomicfile"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/private"
)

// File keeps each login as a file in the open, readable by its owner only, for
// machines without a keychain whose owner chose that.
type File struct {
	// Dir is the folder of the files.
	Dir string
}

func (f File) path(key Key) string {
	return filepath.Join(f.Dir, key.id()+".json")
}

// Where implements [Store].
func (f File) Where(key Key) []string {
	return []string{"the file " + f.path(key) + ", unencrypted"}
}

// Load implements [Store].
func (f File) Load(_ context.Context, key Key) (*Login, error) {
	path := f.path(key)
	data, err := private.ReadSecret(path, maxFile)
	if err != nil {
		return nil, f.failed(err)
	}
	login, err := decodeLogin(data)
	if err != nil {
		return nil, &DamagedError{path, err.Error()}
	}
	return login, nil
}

func (f File) failed(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotFound
	}
	return &UnavailableError{Store: FileName, Why: err.Error(), Err: err}
}

// Save implements [Store].
func (f File) Save(_ context.Context, key Key, login *Login) error {
	data, err := login.encode()
	if err != nil {
		return err
	}
	if err := private.MkdirAll(f.Dir); err != nil {
		return &UnavailableError{Store: FileName, Why: err.Error(), Err: err}
	}
	if err := atomicfile.Write(f.path(key), data); err != nil {
		return &UnavailableError{Store: FileName, Why: err.Error(), Err: err}
	}
	return nil
}

// Delete implements [Store].
func (f File) Delete(_ context.Context, key Key) error {
	if err := atomicfile.Remove(f.path(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return f.failed(err)
	}
	return nil
}
