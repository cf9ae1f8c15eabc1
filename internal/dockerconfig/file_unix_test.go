//go:build unix

package dockerconfig

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestAPipeDoesNotBlock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (File{path}).Helpers(); err == nil || !strings.Contains(err.Error(), path+" is not a regular file") {
		t.Errorf("Helpers: error = %v, want one that names the file", err)
	}
	if _, err := (File{path}).Apply(Add([]string{ours}, "dtz", nil)); err == nil || !strings.Contains(err.Error(), path+" is not a regular file") {
		t.Errorf("Add: error = %v, want one that names the file", err)
	}
}

func TestOwnerStays(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give a file to another")
	}
	path := filepath.Join(t.TempDir(), "config.json")
	write(t, path, before, 0o640)
	if err := os.Chown(path, 1234, 2345); err != nil {
		t.Fatal(err)
	}
	add(t, path)
	wantContent(t, path, after)
	wantMode(t, path, 0o640)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if stat := info.Sys().(*syscall.Stat_t); stat.Uid != 1234 || stat.Gid != 2345 {
		t.Errorf("owner = %d:%d, want 1234:2345", stat.Uid, stat.Gid)
	}
}

func TestPermissionDenied(t *testing.T) {
	bindByPermissions(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "config.json")
	write(t, path, before, 0o000)
	if _, err := (File{path}).Apply(Add([]string{ours}, "dtz", nil)); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("unreadable: error = %v, want one that names the file", err)
	}
	if err := errors.Join(os.Chmod(path, 0o600), os.Chmod(dir, 0o500)); err != nil {
		t.Fatal(err)
	}
	_, err := File{path}.Apply(Add([]string{ours}, "dtz", nil))
	if !errors.Is(err, fs.ErrPermission) || err.Error() != "writing "+path+": permission denied" {
		t.Errorf("in a folder that cannot be written: error = %v, want one that names the file", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	wantContent(t, path, before)
	wantFiles(t, dir, "config.json")
}
