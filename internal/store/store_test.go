package store

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/zalando/go-keyring"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// TestMain gives the package one real keychain: go-keyring keeps one connection
// to the session bus for the life of a process.
func TestMain(m *testing.M) {
	stop := func() {}
	if testenv.Absent("keychain") == nil && os.Getenv(childOf) == "" {
		env, stopKeychain, err := testenv.StartKeychain()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		for name, value := range env {
			os.Setenv(name, value)
		}
		stop = stopKeychain
	}
	code := m.Run()
	stop()
	os.Exit(code)
}

// childOf is set for a test process that another one starts: it has the
// environment that it was given.
const childOf = "DTZ_TEST_CHILD"

var received = time.Unix(1_800_000_000, 0)

// newLogin is a login whose token has n bytes.
func newLogin(n int) *Login {
	l := &Login{Method: Password, User: "alice@example.com", Subject: "identity-abc12345", Context: "context-abc12345"}
	l.SetToken(Token{
		Context: "context-abc12345", Access: secret.String(strings.Repeat("t", n)),
		Received: received, Lifetime: 24 * time.Hour,
	})
	return l
}

// stores are the kinds of store, each with a folder of its own.
func stores(t *testing.T) map[string]Store {
	all := map[string]Store{"file": File{Dir: filepath.Join(t.TempDir(), "logins")}}
	if testenv.Absent("keychain") == nil {
		all["keychain"] = &Keychain{Dir: t.TempDir(), Patience: time.Minute}
		all["keychain of Windows"] = &Keychain{Dir: t.TempDir(), Cap: 2560, Patience: time.Minute}
		all["keychain that holds the key of a file only"] = &Keychain{Dir: t.TempDir(), Cap: 300, Patience: time.Minute}
	}
	return all
}

// keyFor is a key that no other test uses.
func keyFor(t *testing.T) Key {
	return Key{Identity: "https://identity.example/" + strings.ReplaceAll(t.Name(), " ", "_"), Profile: "default"}
}

func TestEveryStoreKeepsLogins(t *testing.T) {
	testenv.Need(t, "keychain")
	for name, s := range stores(t) {
		t.Run(name, func(t *testing.T) {
			ctx, key := t.Context(), keyFor(t)
			other := Key{key.Identity, "work"}
			if _, err := s.Load(ctx, key); !errors.Is(err, ErrNotFound) {
				t.Fatalf("Load before Save = %v, want ErrNotFound", err)
			}
			for _, size := range []int{900, 2186, 30_000, 900} { // 2,186 bytes: a real token with 16 roles
				want := newLogin(size)
				if err := s.Save(ctx, key, want); err != nil {
					t.Fatal(err)
				}
				got, err := s.Load(ctx, key)
				if err != nil || !reflect.DeepEqual(got, want) {
					t.Fatalf("Load after Save of %d bytes = %v, %v", size, got, err)
				}
			}
			if _, err := s.Load(ctx, other); !errors.Is(err, ErrNotFound) {
				t.Errorf("another profile has the login: %v", err)
			}
			if err := s.Save(ctx, other, newLogin(30_000)); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := s.Delete(ctx, key); err != nil {
					t.Errorf("Delete: %v", err)
				}
			}
			if _, err := s.Load(ctx, key); !errors.Is(err, ErrNotFound) {
				t.Errorf("Load after Delete = %v, want ErrNotFound", err)
			}
			if _, err := s.Load(ctx, other); err != nil {
				t.Errorf("deleting one profile's login took the other's: %v", err)
			}
			if err := s.Delete(ctx, other); err != nil {
				t.Error(err)
			}
			if where := s.Where(key); len(where) != 1 {
				t.Errorf("left behind: %q", where)
			}
		})
	}
}

func TestLargeLoginLiesSealed(t *testing.T) {
	testenv.Need(t, "keychain")
	k := &Keychain{Dir: t.TempDir(), Cap: 2560, Patience: time.Minute}
	ctx, key := t.Context(), keyFor(t)
	login := newLogin(2600)
	login.Key = "apikey-canary"
	for range 3 {
		if err := k.Save(ctx, key, login); err != nil {
			t.Fatal(err)
		}
	}
	item, err := keyring.Get(service, account(key))
	if err != nil || len(item) > 2560 {
		t.Fatalf("the item has %d bytes, %v", len(item), err)
	}
	files := k.sealedFiles(key)
	if len(files) != 1 {
		t.Fatalf("sealed files: %q, want the newest alone", files)
	}
	info, err := os.Stat(files[0])
	if err != nil || runtime.GOOS != "windows" && info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, hidden := range []string{"apikey-canary", "tttttttt", "alice", "method"} {
		if strings.Contains(string(data), hidden) {
			t.Errorf("the sealed file shows %q", hidden)
		}
	}

	data[len(data)-1] ^= 1
	if err := os.WriteFile(files[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	var damaged *DamagedError
	if _, err := k.Load(ctx, key); !errors.As(err, &damaged) {
		t.Errorf("Load of a changed file = %v, want a DamagedError", err)
	}
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Load(ctx, key); !errors.As(err, &damaged) {
		t.Errorf("Load without the file = %v, want a DamagedError", err)
	}
	if err := k.Save(ctx, key, newLogin(10)); err != nil {
		t.Errorf("a new login cannot replace the damaged one: %v", err)
	}
}

// A process killed between its file and its item leaves the old login whole.
func TestFileWithoutItemChangesNothing(t *testing.T) {
	testenv.Need(t, "keychain")
	k := &Keychain{Dir: t.TempDir(), Cap: 300, Patience: time.Minute}
	ctx, key := t.Context(), keyFor(t)
	if err := k.Save(ctx, key, newLogin(1000)); err != nil {
		t.Fatal(err)
	}
	orphan := key.id() + "-0123456789abcdef" + sealedSuffix
	if err := k.writeSealed(orphan, randomBytes(sealedKeySize), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	got, err := k.Load(ctx, key)
	if err != nil || !reflect.DeepEqual(got, newLogin(1000)) {
		t.Fatalf("Load = %v, %v, want the old login", got, err)
	}
	if err := k.Save(ctx, key, newLogin(1001)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(k.Dir, orphan)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the orphan was not swept: %v", err)
	}
}

// A reader never sees half a change: not the old item with the new file.
func TestLoadWhileAnotherSaves(t *testing.T) {
	testenv.Need(t, "keychain")
	dir, key := t.TempDir(), keyFor(t)
	writer := &Keychain{Dir: dir, Cap: 300, Patience: time.Minute}
	reader := &Keychain{Dir: dir, Cap: 300, Patience: time.Minute}
	if err := writer.Save(t.Context(), key, newLogin(1000)); err != nil {
		t.Fatal(err)
	}
	ctx, done := context.WithCancel(t.Context())
	go func() {
		defer done()
		for i := range 60 {
			if err := writer.Save(t.Context(), key, newLogin(1000+i)); err != nil {
				t.Error(err)
			}
		}
	}()
	for ctx.Err() == nil {
		if _, err := reader.Load(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
}

func TestForeignItemIsNamedNotQuoted(t *testing.T) {
	testenv.Need(t, "keychain")
	k := &Keychain{Dir: t.TempDir(), Patience: time.Minute}
	key := keyFor(t)
	outside, err := json.Marshal(item{File: "../" + key.id() + ".sealed", Key: randomBytes(32)})
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := json.Marshal(item{File: "0000000000000000-0123456789abcdef.sealed", Key: randomBytes(32)})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"no JSON":                   "canary-password",
		"another program's JSON":    `{"login":{"password":"canary"}}`,
		"a newer version":           `{"login":{"v":2,"token":"canary"}}`,
		"neither key nor token":     `{"login":{"v":1,"sub":"canary"}}`,
		"a token of absurd life":    `{"login":{"v":1,"tokens":[{"token":"canary","received":1,"lifetime":9223372036854775807}]}}`,
		"a file outside its folder": string(outside),
		"another login's file":      string(foreign),
		"nothing":                   "",
	} {
		if err := keyring.Set(service, account(key), text); err != nil {
			t.Fatal(err)
		}
		_, err := k.Load(t.Context(), key)
		var damaged *DamagedError
		if !errors.As(err, &damaged) {
			t.Errorf("%s: Load = %v, want a DamagedError", name, err)
			continue
		}
		if strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: the error quotes the item: %v", name, err)
		}
		if got, _ := keyring.Get(service, account(key)); got != text {
			t.Errorf("%s: Load changed the item", name)
		}
	}
}

// Where no session bus runs, go-keyring would start one with dbus-launch.
func TestWithoutBusNothingIsStarted(t *testing.T) {
	testenv.Need(t, "keychain")
	bin, marker := t.TempDir(), filepath.Join(t.TempDir(), "started")
	script := "#!/bin/sh\ntouch '" + marker + "'\n"
	if err := os.WriteFile(filepath.Join(bin, "dbus-launch"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	for _, address := range []string{"", "autolaunch:"} {
		t.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
		k := &Keychain{Dir: t.TempDir()}
		_, err := k.Load(t.Context(), keyFor(t))
		var away *UnavailableError
		if !errors.As(err, &away) || !strings.Contains(err.Error(), "no D-Bus session") {
			t.Errorf("with address %q: Load = %v", address, err)
		}
		if err := k.Save(t.Context(), keyFor(t), newLogin(9)); !errors.As(err, &away) {
			t.Errorf("with address %q: Save = %v", address, err)
		}
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("dbus-launch was run")
	}
}

// The bus of a login session that is over leaves its address behind, in a tmux
// or a cron of before. What cannot be asked is out of reach, not damaged.
func TestSessionBusThatIsGoneIsOutOfReach(t *testing.T) {
	testenv.Need(t, "keychain")
	const address = "DBUS_SESSION_BUS_ADDRESS"
	stale := "unix:path=/nonexistent/docker-credential-dtz/bus"
	if os.Getenv(address) != stale { // this process has its connection already
		again := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		again.Env = append(os.Environ(), address+"="+stale, childOf+"=1")
		if out, err := again.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	k := &Keychain{Dir: t.TempDir()}
	_, err := k.Load(t.Context(), keyFor(t))
	var away *UnavailableError
	if !errors.As(err, &away) || !strings.Contains(err.Error(), "names a session bus that is gone") {
		t.Errorf("Load = %v, want an UnavailableError that names the bus", err)
	}
}

// go-keyring refuses a line for /usr/bin/security that is over 4,096 bytes.
func TestItemsFitIntoTheLineOfMacOS(t *testing.T) {
	for name, profile := range map[string]string{
		"the default profile": "default",
		"a long name":         strings.Repeat("p", 300),
		"a name not in ASCII": strings.Repeat("ü", 300),
	} {
		user := account(Key{Identity: "https://identity.dtz.rocks/api/2021-02-21", Profile: profile})
		line := func(size int) int { // as go-keyring's keyring_darwin.go builds it
			return len(fmt.Sprintf("add-generic-password -U -s %s -a '%s' -w %s\n", service, user,
				"go-keyring-base64:"+base64.StdEncoding.EncodeToString(make([]byte, size))))
		}
		size := macOSCap(user)
		if line(size) > 4096 || line(size+1) <= 4096 {
			t.Errorf("%s: an item of %d bytes makes a line of %d, one more makes it %d", name, size, line(size), line(size+1))
		}
	}
}

func TestFileOpenToOthersIsRefused(t *testing.T) {
	f := File{Dir: t.TempDir()}
	key := keyFor(t)
	if err := f.Save(t.Context(), key, newLogin(9)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(f.path(key), 0o640); err != nil {
		t.Fatal(err)
	}
	_, err := f.Load(t.Context(), key)
	var away *UnavailableError
	if !errors.As(err, &away) || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("Load = %v, want an UnavailableError with the remedy", err)
	}
}

func TestSetTokenKeepsOneForEachContextInUse(t *testing.T) {
	l := newLogin(9)
	at := received.Add(25 * time.Hour) // the first one has ended
	l.SetToken(Token{Context: "context-zzz99999", Access: "b", Received: at, Lifetime: time.Hour})
	l.SetToken(Token{Context: "zzz99999", Access: "c", Received: at, Lifetime: 2 * time.Hour})
	l.SetToken(Token{Context: "context-yyy99999", Access: "d", Received: at, Lifetime: time.Hour})
	if len(l.Tokens) != 2 || l.Token("context-zzz99999").Access != "c" {
		t.Errorf("tokens = %d, that of zzz99999 is in its newest form: %v", len(l.Tokens), l.Token("context-zzz99999").Access == "c")
	}
	if got := l.Newest().Access; got != "c" {
		t.Error("Newest is not the one that ends last")
	}
}

func FuzzDecodeLogin(f *testing.F) {
	valid, err := newLogin(9).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(valid)
	f.Add([]byte(`{"v":1,"key":"apikey-abc12345"}`))
	f.Add([]byte(`{"v":1,"tokens":[{"token":"t","received":1,"lifetime":-1}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := decodeLogin(data)
		if err != nil {
			return
		}
		again, err := l.encode()
		if err != nil {
			t.Fatal(err)
		}
		same, err := decodeLogin(again)
		if err != nil || !reflect.DeepEqual(same, l) {
			t.Fatalf("decode(%q) is written as %q, which is read as %v, %v", data, again, same, err)
		}
	})
}
