// Package atomicfile replaces files whole: whoever reads one sees the old
// content or the new, never a part, also after a crash.
package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/private"
)

// Write replaces the file at path by data, readable and writable by its owner
// only. The new content is on disk before it takes the name; after an error, an
// [*fs.PathError] for path, the old file is as it was, and nothing is left
// beside it.
func Write(path string, data []byte) error {
	f, err := Create(path)
	if err != nil {
		return err
	}
	defer f.Discard()
	if _, err := f.Write(data); err != nil {
		return f.failed(err)
	}
	return f.Commit()
}

// Remove removes the file at path, and what writers of it have left that were
// killed: nobody may write it again, and sweep then. The error is [os.Remove]'s.
func Remove(path string) error {
	dir, name := filepath.Split(path)
	sweep(dir, "."+name+mark)
	return os.Remove(path)
}

// File is new content for a file, under a temporary name beside it until
// [File.Commit].
type File struct {
	*os.File
	path      string
	committed bool
}

// mark is in the name of our temporary files and of nobody else's.
const mark = ".docker-credential-dtz-"

// Create begins new content for the file at path, readable and writable by its
// owner only. Temporary files of writers that were killed are removed first,
// those of living ones are not.
func Create(path string) (*File, error) {
	dir, name := filepath.Split(path)
	prefix := "." + name + mark
	sweep(dir, prefix)
	for {
		tmp, err := os.CreateTemp(dir, prefix+"*") // 0600, and refuses an existing file or link
		f := &File{File: tmp, path: path}
		if err != nil {
			return nil, f.failed(err)
		}
		private.Give(tmp)
		if claim(tmp) {
			return f, nil
		}
		_ = tmp.Close() // another's sweep has come between; it removes the file
	}
}

// Commit gives the content the file's name once it is on disk. After an error
// the old file is as it was.
func (f *File) Commit() error {
	err := Sync(f.File)
	if err == nil {
		err = f.rename()
	}
	if err != nil {
		return f.failed(err)
	}
	f.committed = true
	_ = f.Close() // all of it is on disk
	return nil
}

// rename leaves the file open meanwhile, since then no sweep takes it. Some file
// systems rename none that is open, such as a virtual machine's shared folders.
func (f *File) rename() error {
	if renamesOpenFiles && os.Rename(f.Name(), f.path) == nil {
		return nil
	}
	if err := f.Close(); err != nil {
		return err
	}
	return private.Retry(func() error { return os.Rename(f.Name(), f.path) })
}

// Discard removes what has been written, unless it has been committed.
func (f *File) Discard() {
	if !f.committed {
		_ = f.Close() // closed already, or failing is of no matter
		_ = os.Remove(f.Name())
	}
}

// failed names the file that was to be written, not the temporary one.
func (f *File) failed(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err
	} else if link, ok := errors.AsType[*os.LinkError](err); ok {
		err = link.Err
	}
	return &fs.PathError{Op: "writing", Path: f.path, Err: err}
}

// sweep removes from dir what writers have left that were killed.
func sweep(dir, prefix string) {
	if dir == "" {
		dir = "."
	}
	entries, _ := os.ReadDir(dir) // if it cannot be read, nothing is swept
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), prefix) && entry.Type().IsRegular() {
			removeAbandoned(filepath.Join(dir, entry.Name()))
		}
	}
}

// Sync waits until what was written to f is on disk, as far as its file system
// can tell: some of FUSE have no fsync(2).
func Sync(f *os.File) error {
	err := f.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}
