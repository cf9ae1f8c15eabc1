//go:build !unix

package dockerconfig

import (
	"io/fs"
	"os"
)

// keepOwner returns the mode that file is to have. A new file's owner is the
// folder's matter here.
func keepOwner(_ *os.File, old fs.FileInfo) fs.FileMode { return old.Mode().Perm() }
