//go:build unix

package store

import (
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/private"
)

// ownedPrivately checks that a folder is this user's, entered by nobody else
// and writable.
func ownedPrivately(dir string, info fs.FileInfo) error {
	if !private.Mine(info) {
		return fmt.Errorf("%s is another user's", dir)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is open to others", dir)
	}
	return unix.Access(dir, unix.W_OK|unix.X_OK)
}
