package dockerconfig

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// bindByPermissions makes file permissions count for the rest of t even where
// root runs the tests: for this thread the file system sees another user
// (setfsuid(2)), who owns the temporary folder.
func bindByPermissions(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	const nobody = 65534
	if err := os.Chmod(t.TempDir()+"/..", 0o777); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	if err := unix.Setfsuid(nobody); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Setfsuid(0); err != nil {
			t.Error(err)
		}
		runtime.UnlockOSThread()
	})
}
