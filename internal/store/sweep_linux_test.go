package store

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// To open a sealed file as a lock would make it anew where another process has
// swept it meanwhile.
func TestSweepOpensNoSealedFile(t *testing.T) {
	k := &Keychain{Dir: filepath.Join(t.TempDir(), "logins")}
	key := keyFor(t)
	orphan := key.id() + "-0123456789abcdef" + sealedSuffix
	if err := k.writeSealed(orphan, randomBytes(sealedKeySize), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, k.Dir, unix.IN_OPEN|unix.IN_CREATE); err != nil {
		t.Fatal(err)
	}

	k.sweep(key, sealedName(key))

	if _, err := os.Stat(filepath.Join(k.Dir, orphan)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the orphan was not swept: %v", err)
	}
	events := make([]byte, 4096)
	n, err := unix.Read(fd, events)
	if err != nil { // at least that the folder was read
		t.Fatal(err)
	}
	if bytes.Contains(events[:n], []byte(orphan)) {
		t.Error("the orphan was opened")
	}
}
