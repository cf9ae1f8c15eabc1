// Package private opens, makes and locks the files that belong to one user, in
// places where somebody else may have been first: a link, a named pipe or
// another's file under the name is refused or is of no use to whoever planted
// it.
package private

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Read returns what the regular file at path holds. It follows no link at the
// end of path, waits for no pipe, and gives up over limit bytes.
func Read(path string, limit int64) ([]byte, error) {
	data, _, err := read(path, noFollow, limit)
	return data, err
}

// ReadTrusted is [Read] for a file whose content decides who gets a secret, so
// that an [*UntrustedError] says that others could have written it. It does
// follow links: people keep such files among their dotfiles.
func ReadTrusted(path string, limit int64) ([]byte, error) {
	data, info, err := read(path, 0, limit)
	if err != nil {
		return nil, err
	}
	if err := Trust(path, info); err != nil {
		return nil, err
	}
	return data, nil
}

// ReadSecret is [Read] for a file that holds a secret in the open: it is an error
// that others may read or write it.
func ReadSecret(path string, limit int64) ([]byte, error) {
	data, info, err := read(path, noFollow, limit)
	if err != nil {
		return nil, err
	}
	if isOpen(info) {
		return nil, fmt.Errorf("%s is open to others (mode %#o); if nobody has used that, run: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	if err := Trust(path, info); err != nil {
		return nil, err
	}
	return data, nil
}

func read(path string, flags int, limit int64) ([]byte, fs.FileInfo, error) {
	// Without O_NONBLOCK a named pipe that nobody writes to would wait for ever.
	var f *os.File
	err := Retry(func() (err error) {
		f, err = os.OpenFile(path, os.O_RDONLY|nonBlock|flags, 0)
		return err
	})
	if err != nil {
		if flags&noFollow != 0 {
			err = linked(path, err)
		}
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("%s is not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, nil, err
	}
	if int64(len(data)) > limit {
		return nil, nil, fmt.Errorf("%s is over %d bytes", path, limit)
	}
	return data, info, nil
}

// linked says in words that path was not opened since a link lies there, which
// open(2) with O_NOFOLLOW answers with ELOOP.
func linked(path string, err error) error {
	if errors.Is(err, syscall.ELOOP) {
		return fmt.Errorf("%s is a link; if it is not yours, remove it", path)
	}
	return err
}

// UntrustedError says that others than this user and root can have written a
// file.
type UntrustedError struct {
	Path   string
	Why    string // e.g. can be changed by others (mode 0666)
	Remedy string // e.g. look at what is in it, then run "chmod go-w PATH"
}

func (e *UntrustedError) Error() string { return e.Path + " " + e.Why }

// Trust checks that nobody else can have written the file or folder that info
// is of, as ssh does it for its configuration: it is this user's or root's, and
// only its owner may write it. The owner's group may, too, where that is the
// owner's alone, as the usual umask of 002 has it. Root takes a file of any
// owner, since under sudo the home folder may be that of the user before. The
// error is an [*UntrustedError].
func Trust(path string, info fs.FileInfo) error {
	if who := Foreign(info); who != "" {
		return &UntrustedError{path, "belongs to " + who, "let HOME be your own home folder; if it is, look at what is in that file, then make it yours with chown"}
	}
	if who := writers(info); who != "" {
		return &UntrustedError{path, fmt.Sprintf("can be changed by %s (mode %#o)", who, info.Mode().Perm()), fmt.Sprintf("look at what is in it, then run %q", "chmod go-w "+path)}
	}
	return nil
}

// MkdirAll makes dir and what it lies in, for the owner only. What root makes in
// the folder of another is that user's.
func MkdirAll(dir string) error {
	info, err := os.Stat(dir)
	if err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MkdirAll(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		if info, statErr := os.Stat(dir); errors.Is(err, fs.ErrExist) && statErr == nil && info.IsDir() {
			return nil // somebody else was faster
		}
		return err
	}
	return giveDir(dir)
}
