//go:build unix && !darwin

package store

import (
	"os"
	"path/filepath"
	"strconv"
)

// reachable looks for a session bus before go-keyring does: where there is none
// and dbus-launch is installed, each of its calls would start a bus and a
// keyring daemon that nobody ends.
func reachable() error {
	if address := os.Getenv("DBUS_SESSION_BUS_ADDRESS"); address != "" && address != "autolaunch:" {
		return nil
	}
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = filepath.Join("/run/user", strconv.Itoa(os.Getuid()))
	}
	if _, err := os.Stat(filepath.Join(dir, "bus")); err == nil {
		return nil
	}
	return errNoBus
}
