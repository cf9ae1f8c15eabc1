package store

import (
	"os"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

func TestProbeLeavesNothing(t *testing.T) {
	testenv.Need(t, "keychain")
	k := &Keychain{Dir: t.TempDir()}
	if err := k.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := dbus.Connect(os.Getenv("DBUS_SESSION_BUS_ADDRESS"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const secrets = "org.freedesktop.secrets"
	var unlocked, locked []dbus.ObjectPath
	search := conn.Object(secrets, "/org/freedesktop/secrets").
		Call("org.freedesktop.Secret.Service.SearchItems", 0, map[string]string{"service": service})
	if err := search.Store(&unlocked, &locked); err != nil {
		t.Fatal(err)
	}
	for _, item := range append(unlocked, locked...) {
		attributes, err := conn.Object(secrets, item).GetProperty("org.freedesktop.Secret.Item.Attributes")
		if err == nil && strings.Contains(attributes.String(), "doctor") { // else it has gone since: another test's
			t.Errorf("it left %s", attributes)
		}
	}
	if files, err := os.ReadDir(k.Dir); err != nil || len(files) > 0 {
		t.Errorf("it left files %v, %v", files, err)
	}
}
