package testenv

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/zalando/go-keyring"
)

func TestKeychainKeepsASecretAndGoesAwayWhole(t *testing.T) {
	Need(t, "keychain")
	env, stop, err := StartKeychain()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for name, value := range env {
		t.Setenv(name, value)
	}
	if err := keyring.Set("testenv", "somebody", "a secret"); err != nil {
		t.Fatal(err)
	}
	if got, err := keyring.Get("testenv", "somebody"); got != "a secret" {
		t.Errorf("Get = %q, %v, want what Set was given", got, err)
	}

	stop()
	if _, err := os.Stat(env["XDG_RUNTIME_DIR"]); !os.IsNotExist(err) {
		t.Errorf("after stop, the keychain's folder is still there (%v)", err)
	}
	if conn, err := dbus.Connect(env["DBUS_SESSION_BUS_ADDRESS"]); err == nil {
		conn.Close()
		t.Error("after stop, the bus still answers")
	}
}

func TestKeychainsStartSideBySide(t *testing.T) {
	for range 4 {
		t.Run("keychain", func(t *testing.T) {
			t.Parallel()
			env := Keychain(t)
			conn, err := dbus.Connect(env["DBUS_SESSION_BUS_ADDRESS"])
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			var unlocked, locked []dbus.ObjectPath
			search := conn.Object("org.freedesktop.secrets", "/org/freedesktop/secrets").
				Call("org.freedesktop.Secret.Service.SearchItems", 0, map[string]string{})
			if err := search.Store(&unlocked, &locked); err != nil {
				t.Fatal(err)
			}
			if len(unlocked)+len(locked) != 0 {
				t.Errorf("a new keychain has items: %v %v", unlocked, locked)
			}
		})
	}
}

func TestDaemonsDoNotOutliveTheTestBinary(t *testing.T) {
	Need(t, "keychain")
	if os.Getenv("TESTENV_DIE") != "" {
		env, _, err := StartKeychain()
		if err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString(env["DBUS_SESSION_BUS_ADDRESS"] + "\n" + env["XDG_RUNTIME_DIR"] + "\n")
		os.Exit(0) // no cleanup runs
	}
	self := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	self.Env = append(os.Environ(), "TESTENV_DIE=1")
	out, err := self.Output()
	if err != nil {
		t.Fatal(err)
	}
	address, dir, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	defer os.RemoveAll(dir)
	for deadline := time.Now().Add(startLimit); ; time.Sleep(10 * time.Millisecond) {
		conn, err := dbus.Connect(address)
		if err != nil {
			return
		}
		conn.Close()
		if time.Now().After(deadline) {
			t.Fatal("the bus outlives the process that started it")
		}
	}
}
