package dockerconfig

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/atomicfile"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/private"
)

const (
	maxSize  = 4 << 20 // bytes of a file that is edited
	maxTries = 5       // when others write at the same time
	maxLinks = 40      // symbolic links in a row, as Linux has it
)

// ErrChanged is what [File.Apply] ends in when others write the file all the
// time.
var ErrChanged = errors.New("another program keeps changing it")

// content is what is found under a path.
type content struct {
	target string      // the path behind symbolic links
	info   fs.FileInfo // nil: there is no file
	data   []byte
}

func (c *content) equal(other *content) bool {
	return c.target == other.target && (c.info == nil) == (other.info == nil) && bytes.Equal(c.data, other.data)
}

func read(path string) (*content, error) {
	if path == "" {
		return nil, errors.New("no home folder in which it could be")
	}
	target, err := follow(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c, err := readTarget(target)
	if err != nil && target != path {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, err
}

// readTarget reads a regular file of at most 4 MiB. It opens nothing else, since
// opening a pipe waits for its other end.
func readTarget(target string) (*content, error) {
	info, err := os.Stat(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &content{target: target}, nil
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", target)
	case info.Size() > maxSize:
		return nil, fmt.Errorf("%s is larger than 4 MiB", target)
	}
	var file *os.File
	err = private.Retry(func() (err error) {
		file, err = os.Open(target)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSize {
		return nil, fmt.Errorf("%s is larger than 4 MiB", target)
	}
	return &content{target, info, data}, nil
}

// follow returns the file that path leads to, which need not exist. Renaming a
// new file over path itself would put it in a link's place.
func follow(path string) (string, error) {
	for range maxLinks {
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode()&fs.ModeSymlink == 0 {
			return path, nil
		}
		if err != nil {
			return "", err
		}
		if who := private.Foreign(info); who != "" {
			return "", fmt.Errorf("it is a link that belongs to %s", who) // as Linux has it where protected_symlinks is on
		}
		link, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(link) {
			// ".." in it starts at the folder's own place, not at a link to it.
			dir, err := filepath.EvalSymlinks(filepath.Dir(path))
			if err != nil {
				return "", err
			}
			link = filepath.Join(dir, link)
		}
		path = link
	}
	return "", errors.New("too many symbolic links")
}

// Preview is what Apply would do.
func (f File) Preview(e Edit) (Change, error) {
	_, c, err := f.plan(e)
	return c, err
}

func (f File) plan(e Edit) (now *content, c Change, err error) {
	if now, err = read(f.Path); err != nil {
		return nil, Change{}, err
	}
	if c, err = e(now.data); err != nil {
		return nil, Change{}, fmt.Errorf("%s: %w", f.Path, err)
	}
	return now, c, nil
}

// Apply edits the file. A file or folder that is not there is made, for its
// owner only.
func (f File) Apply(e Edit) (Change, error) {
	// Docker takes no lock when it writes the file, so all that can be done is to
	// look once more before the new one takes its name.
	for range maxTries {
		now, c, err := f.plan(e)
		if err != nil {
			return Change{}, err
		}
		if len(c.Entries) == 0 {
			return c, nil
		}
		if c.After == nil {
			err = f.remove(now)
		} else {
			err = f.write(now, c.After)
		}
		switch {
		case err == nil:
			return c, nil
		case !errors.Is(err, ErrChanged):
			if path, ok := errors.AsType[*fs.PathError](err); ok {
				err = path.Err // its path may be that of a temporary file
			}
			return Change{}, fmt.Errorf("writing %s: %w", f.Path, err)
		}
	}
	return Change{}, fmt.Errorf("writing %s: %w", f.Path, ErrChanged)
}

// remove removes the file unless it is no longer as it was read: ErrChanged.
func (f File) remove(old *content) error {
	now, err := read(f.Path)
	if err != nil {
		return err
	}
	if !now.equal(old) {
		return ErrChanged
	}
	return atomicfile.Remove(old.target)
}

// write replaces the file as it was read by one that holds data, with the same
// mode and, where that is allowed, the same owner. On an error, ErrChanged if it
// is no longer as it was read, it stays as it is and nothing is left beside it.
func (f File) write(old *content, data []byte) error {
	if err := private.MkdirAll(filepath.Dir(old.target)); err != nil {
		return err
	}
	tmp, err := atomicfile.Create(old.target)
	if err != nil {
		return err
	}
	defer tmp.Discard()
	if _, err := tmp.Write(data); err != nil {
		return err
	}
	if old.info != nil {
		if err := tmp.Chmod(keepOwner(tmp.File, old.info)); err != nil {
			return err
		}
	}
	if err := atomicfile.Sync(tmp.File); err != nil {
		return err
	}
	now, err := read(f.Path)
	if err != nil {
		return err
	}
	if !now.equal(old) {
		return ErrChanged
	}
	return tmp.Commit()
}
