package testenv

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/godbus/dbus/v5"
)

// Bus starts a session bus on which nobody keeps secrets. It ends with t.
func Bus(t testing.TB) (env map[string]string) {
	t.Helper()
	Need(t, "keychain")
	dir, err := shortDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	env = keychainEnv(dir)
	stop, err := startBus(dir, env["DBUS_SESSION_BUS_ADDRESS"], []string{"PATH=" + os.Getenv("PATH")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return env
}

// LockKeychain locks the keychain that env is of. Without a display, nobody can
// be asked for its password then.
func LockKeychain(t testing.TB, env map[string]string) {
	t.Helper()
	conn, err := dbus.Connect(env["DBUS_SESSION_BUS_ADDRESS"])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var locked []dbus.ObjectPath
	var prompt dbus.ObjectPath
	err = conn.Object(secretsName, secretsPath).Call(serviceInterface+".Lock", 0, []dbus.ObjectPath{defaultCollection}).Store(&locked, &prompt)
	if err == nil && prompt != noPrompt {
		err = errors.New("the keychain wants a prompt to be locked")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Names of the Secret Service API 0.2.
const (
	secretsName                       = "org.freedesktop.secrets"
	secretsPath       dbus.ObjectPath = "/org/freedesktop/secrets"
	defaultCollection dbus.ObjectPath = secretsPath + "/aliases/default"
	noPrompt          dbus.ObjectPath = "/"

	serviceInterface    = "org.freedesktop.Secret.Service"
	collectionInterface = "org.freedesktop.Secret.Collection"
	sessionInterface    = "org.freedesktop.Secret.Session"
	promptInterface     = "org.freedesktop.Secret.Prompt"
)

// Prompting starts a keychain that asks before it keeps anything, as KeePassXC
// can be told to, and is empty. A question is dismissed, or, if not so, is never
// answered. It ends with t.
func Prompting(t testing.TB, dismissed bool) (env map[string]string) {
	t.Helper()
	env = Bus(t)
	conn, err := dbus.Connect(env["DBUS_SESSION_BUS_ADDRESS"])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	p := prompter{conn, dismissed}
	for _, object := range []struct {
		path   dbus.ObjectPath
		name   string
		method map[string]any
	}{
		{secretsPath, serviceInterface, map[string]any{"OpenSession": p.openSession, "Unlock": p.unlock}},
		{secretsPath + "/session", sessionInterface, map[string]any{"Close": func() *dbus.Error { return nil }}},
		{defaultCollection, collectionInterface, map[string]any{"SearchItems": p.searchItems, "CreateItem": p.createItem}},
		{secretsPath + "/prompt", promptInterface, map[string]any{"Prompt": p.prompt}},
	} {
		if err := conn.ExportMethodTable(object.method, object.path, object.name); err != nil {
			t.Fatal(err)
		}
	}
	reply, err := conn.RequestName(secretsName, dbus.NameFlagDoNotQueue)
	if err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatal("taking the name of the Secret Service: ", reply, err)
	}
	return env
}

// prompter is as much of a Secret Service as it takes to be asked to keep an
// item.
type prompter struct {
	conn      *dbus.Conn
	dismissed bool
}

func (p prompter) openSession(string, dbus.Variant) (dbus.Variant, dbus.ObjectPath, *dbus.Error) {
	return dbus.MakeVariant(""), secretsPath + "/session", nil
}

func (p prompter) unlock(objects []dbus.ObjectPath) ([]dbus.ObjectPath, dbus.ObjectPath, *dbus.Error) {
	return objects, noPrompt, nil
}

func (p prompter) searchItems(map[string]string) ([]dbus.ObjectPath, *dbus.Error) {
	return nil, nil
}

// secretStruct is the API's Secret.
type secretStruct struct {
	Session     dbus.ObjectPath
	Parameters  []byte
	Value       []byte
	ContentType string
}

func (p prompter) createItem(map[string]dbus.Variant, secretStruct, bool) (item, prompt dbus.ObjectPath, _ *dbus.Error) {
	return "/", secretsPath + "/prompt", nil
}

func (p prompter) prompt(string) *dbus.Error {
	if p.dismissed {
		_ = p.conn.Emit(secretsPath+"/prompt", promptInterface+".Completed", true, dbus.MakeVariant(""))
	}
	return nil
}

// keychainEnv is the environment of a keychain whose bus is in dir.
func keychainEnv(dir string) map[string]string {
	return map[string]string{
		"DBUS_SESSION_BUS_ADDRESS": "unix:path=" + filepath.Join(dir, "bus"),
		"XDG_RUNTIME_DIR":          dir,
		// With a display, a prompt would go to the person in front of it.
		"DISPLAY":         "",
		"WAYLAND_DISPLAY": "",
	}
}
