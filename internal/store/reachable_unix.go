//go:build unix && !darwin

package store

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
)

const busVariable = "DBUS_SESSION_BUS_ADDRESS"

// reachable sees to it that go-keyring finds a session bus at an address. Without
// one its D-Bus library looks below /run/user only, whatever XDG_RUNTIME_DIR
// says, and then starts dbus-launch: with each call a bus and a keyring daemon
// that nobody ends.
func reachable() error {
	if address := os.Getenv(busVariable); address != "" && !strings.HasPrefix(address, "autolaunch:") {
		return nil
	}
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = filepath.Join("/run/user", strconv.Itoa(os.Getuid()))
	}
	bus := filepath.Join(dir, "bus") // as systemd has it (sd_bus_open_user(3))
	if info, err := os.Stat(bus); err != nil || info.Mode()&fs.ModeSocket == 0 {
		return errNoBus
	}
	return os.Setenv(busVariable, "unix:path="+dbus.EscapeBusAddressValue(bus))
}
