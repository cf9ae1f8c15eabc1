//go:build unix

package private

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

const (
	noFollow = syscall.O_NOFOLLOW
	nonBlock = syscall.O_NONBLOCK
)

// Mine reports whether a file or folder is this user's.
func Mine(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

// Foreign is whose a file is, if not this user's or root's; root has none that
// are foreign.
func Foreign(info fs.FileInfo) string {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "nobody that can be told"
	}
	if me := os.Geteuid(); me == 0 || stat.Uid == 0 || int(stat.Uid) == me {
		return ""
	}
	if owner := username(stat.Uid); owner != "" {
		return "the user " + owner
	}
	return fmt.Sprintf("another user (uid %d)", stat.Uid)
}

// isOpen reports whether anybody but its owner may do anything with a file.
func isOpen(info fs.FileInfo) bool { return info.Mode().Perm()&0o077 != 0 }

// writers is who else than its owner may write a file.
func writers(info fs.FileInfo) string {
	mode := info.Mode().Perm()
	if mode&0o002 != 0 {
		return "others"
	}
	if mode&0o020 == 0 {
		return ""
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		// A group that is called like the user is the user's alone (useradd -U).
		group, err := user.LookupGroupId(strconv.FormatUint(uint64(stat.Gid), 10))
		if err == nil && group.Name == username(stat.Uid) {
			return ""
		}
	}
	return "its group"
}

func username(uid uint32) string {
	account, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return ""
	}
	return account.Username
}

// Give makes a file that root has just made belong to the owner of its folder:
// in a home folder that sudo has left as it was, its user could neither read nor
// replace it later. Where that is not allowed it stays as it is.
func Give(f *os.File) {
	if os.Geteuid() != 0 {
		return
	}
	info, err := os.Stat(filepath.Dir(f.Name()))
	if err != nil {
		return
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid != 0 {
		_ = f.Chown(int(stat.Uid), int(stat.Gid))
	}
}

// giveDir is Give for a folder. By its name alone it could be another file's by
// now.
func giveDir(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|noFollow, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	Give(f)
	return nil
}
