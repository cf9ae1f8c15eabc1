//go:build unix

package private

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

func TestALinkInTheLocksPlaceIsNamedOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lock")
	if err := os.Symlink("/etc/passwd", path); err != nil {
		t.Fatal(err)
	}
	want := path + " is a link; if it is not yours, remove it"
	if _, err := Lock(context.Background(), path, nil); err == nil || err.Error() != want {
		t.Errorf("Lock: %v, want %s", err, want)
	}
	if _, err := HasLocks(path); err == nil || err.Error() != want {
		t.Errorf("HasLocks: %v, want %s", err, want)
	}
}
