//go:build unix && !linux

package dockerconfig

import (
	"os"
	"testing"
)

func bindByPermissions(t *testing.T) {
	t.Helper()
	if os.Getuid() == 0 {
		t.Skip("permissions do not bind root")
	}
}
