//go:build unix

package dockerconfig

import (
	"io/fs"
	"os"
	"syscall"
)

// keepOwner gives file the owner and group that old has, as far as this process
// may, and returns the mode that file is to have: that of old, but what the
// group may is for nobody if the group could not be kept.
func keepOwner(file *os.File, old fs.FileInfo) fs.FileMode {
	mode := old.Mode().Perm()
	stat, ok := old.Sys().(*syscall.Stat_t)
	if !ok {
		return mode
	}
	// At once for root, else the group alone: only root gives files away.
	if file.Chown(int(stat.Uid), int(stat.Gid)) == nil || file.Chown(-1, int(stat.Gid)) == nil {
		return mode
	}
	return mode &^ 0o070
}
