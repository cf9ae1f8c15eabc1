//go:build unix

package registry

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Nobody writes to it: whoever opened it as a file would wait for ever.
func TestDenyListIsNotAFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDenyList(path, nil); err == nil || !strings.HasSuffix(err.Error(), "not a regular file") {
		t.Errorf("%v, want it refused", err)
	}
}
