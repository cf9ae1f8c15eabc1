package testenv

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// busConfig has no service directories, so that the bus cannot activate a
// second, locked keyring daemon besides ours.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
    <allow own="*"/>
  </policy>
</busconfig>
`

// OwnKeychain is set to 1 for test binaries on a Windows of Wine's, or with a
// stand-in for that of macOS: tests may use the keychain that is there.
const OwnKeychain = "DTZ_TEST_OWN_KEYCHAIN"

func keychainAbsent() error {
	if os.Getenv(OwnKeychain) != "" {
		return nil
	}
	return onLinux("dbus-daemon", "gnome-keyring-daemon")
}

// Keychain starts an empty, unlocked keychain that ends with t: see
// [StartKeychain]. Without one on this machine it does what [Need] does.
func Keychain(t testing.TB) (env map[string]string) {
	t.Helper()
	Need(t, "keychain")
	env, stop, err := StartKeychain()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return env
}

// StartKeychain starts an empty, unlocked keychain: gnome-keyring's Secret
// Service on a D-Bus of its own. A process that has env in its environment uses
// it instead of the desktop's. stop ends it and removes all that it kept.
//
// godbus, and so go-keyring, keeps one connection a process to the session bus:
// a package that opens the keychain in the test process itself starts one in
// TestMain, sets env and stops it at the end.
func StartKeychain() (env map[string]string, stop func(), err error) {
	if os.Getenv(OwnKeychain) != "" {
		return nil, func() {}, nil
	}
	dir, err := shortDir()
	if err != nil {
		return nil, nil, err
	}
	env = keychainEnv(dir)
	stopService, err := startSecretService(dir, env["DBUS_SESSION_BUS_ADDRESS"])
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, nil, fmt.Errorf("starting a keychain: %w", err)
	}
	return env, func() {
		stopService()
		_ = os.RemoveAll(dir)
	}, nil
}

// startSecretService returns when the service answers on the bus at address.
func startSecretService(dir, address string) (stop func(), err error) {
	env := []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + dir,
		"XDG_RUNTIME_DIR=" + dir,
		"XDG_DATA_HOME=" + dir, // the collections are below it
		"DBUS_SESSION_BUS_ADDRESS=" + address,
	}
	stopBus, err := startBus(dir, address, env)
	if err != nil {
		return nil, err
	}
	var said bytes.Buffer
	daemon := exec.Command("gnome-keyring-daemon", "--foreground", "--unlock", "--components=secrets")
	daemon.Env = env
	daemon.Stdin = strings.NewReader("password") // of the collection that it makes
	daemon.Stderr = &said
	stopDaemon, err := Start(daemon)
	if err != nil {
		stopBus()
		return nil, err
	}
	stop = func() {
		stopDaemon()
		stopBus()
	}
	if err := waitForName(address, secretsName); err != nil {
		stop()
		return nil, fmt.Errorf("%w; gnome-keyring-daemon said: %s", err, said.Bytes())
	}
	return stop, nil
}

// startBus returns when the bus accepts connections.
func startBus(dir, address string, env []string) (stop func(), err error) {
	config := filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, busConfig, address), 0o600); err != nil {
		return nil, err
	}
	ready, printed, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ready.Close()
	bus := exec.Command("dbus-daemon", "--config-file="+config, "--nofork", "--nosyslog", "--print-address=3")
	bus.Env = env
	bus.ExtraFiles = []*os.File{printed}
	var said bytes.Buffer
	bus.Stderr = &said
	stop, err = Start(bus)
	printed.Close()
	if err != nil {
		return nil, err
	}
	_ = ready.SetReadDeadline(time.Now().Add(startLimit))
	if _, err := bufio.NewReader(ready).ReadString('\n'); err != nil {
		stop()
		return nil, fmt.Errorf("dbus-daemon is not ready: %w; it said: %s", err, said.Bytes())
	}
	return stop, nil
}

// startLimit is what a daemon may take to answer, on a busy machine.
const startLimit = 30 * time.Second

// waitForName returns when a process on the bus owns name.
func waitForName(address, name string) error {
	conn, err := dbus.Connect(address)
	if err != nil {
		return err
	}
	defer conn.Close()
	for start := time.Now(); time.Since(start) < startLimit; time.Sleep(5 * time.Millisecond) {
		var owned bool
		if err := conn.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, name).Store(&owned); err != nil {
			return err
		}
		if owned {
			return nil
		}
	}
	return errors.New("nobody took the name " + name)
}
