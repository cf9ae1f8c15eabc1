//go:build linux

package store

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/zalando/go-keyring"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// The tests of this package, and those below, with the code for macOS and a
// stand-in for its security.
func TestOnMacOS(t *testing.T) {
	flags, dir := testenv.MacOSKeychain(t)
	tests := filepath.Join(t.TempDir(), "store.test")
	args := append([]string{"test", "-c", "-o", tests}, flags...)
	if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	names := []string{
		"TestEveryStoreKeepsLogins", "TestLargeLoginLiesSealed", "TestFileWithoutItemChangesNothing", "TestForeignItemIsNamedNotQuoted",
		"TestSecurityTakesTheLargestItem", "TestSecurityIsGivenNoCommand", "TestSecurityThatFails", "TestSecurityThatHangs",
	}
	cmd := exec.CommandContext(t.Context(), tests, "-test.v", "-test.run=^("+strings.Join(names, "|")+")$")
	cmd.Env = append(os.Environ(), testenv.OwnKeychain+"=1", testenv.SecurityDir+"="+dir, childOf+"="+t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range names {
		if !bytes.Contains(out, []byte("--- PASS: "+name+" (")) {
			t.Errorf("%s was not run, or skipped", name)
		}
	}
}

// securityDir is the folder of security's stand-in. Without one t is skipped:
// TestOnMacOS runs it.
func securityDir(t *testing.T) string {
	dir := os.Getenv(testenv.SecurityDir)
	if dir == "" {
		t.Skip("run by TestOnMacOS")
	}
	return dir
}

// securityFails has every command of security end so, until t ends.
func securityFails(t *testing.T, how string) {
	path := filepath.Join(securityDir(t), "fails")
	if err := os.WriteFile(path, []byte(how), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(path) })
}

func TestSecurityTakesTheLargestItem(t *testing.T) {
	dir := securityDir(t)
	key := Key{Identity: "https://identity.dtz.rocks/api/2021-02-21", Profile: strings.Repeat("p", 40)}
	k := &Keychain{Dir: t.TempDir(), Patience: time.Minute}
	const wrapped = len(`{"login":}`)
	empty, err := newLogin(0).encode()
	if err != nil {
		t.Fatal(err)
	}
	largest := macOSCap(account(key)) - wrapped - len(empty)
	for _, tt := range []struct {
		name   string
		token  int
		sealed int // files
	}{
		{"one byte less than fits", largest - 1, 0},
		{"all that fits", largest, 0},
		{"one byte more", largest + 1, 1},
		{"far more", 20_000, 1},
		{"little, after much", 10, 0},
	} {
		if err := k.Save(t.Context(), key, newLogin(tt.token)); err != nil {
			t.Fatal(tt.name, err)
		}
		got, err := k.Load(t.Context(), key)
		if err != nil || !reflect.DeepEqual(got, newLogin(tt.token)) {
			t.Errorf("%s: Load = %v, %v", tt.name, got, err)
		}
		if files := k.sealedFiles(key); len(files) != tt.sealed {
			t.Errorf("%s: sealed files %q, want %d", tt.name, files, tt.sealed)
		}
	}

	text, err := os.ReadFile(filepath.Join(dir, "lines"))
	if err != nil {
		t.Fatal(err)
	}
	longest := 0
	for line := range strings.FieldsSeq(string(text)) {
		n, err := strconv.Atoi(line)
		if err != nil {
			t.Fatal(err)
		}
		longest = max(longest, n)
	}
	if longest > 4096 || longest < 4090 {
		t.Errorf("the longest line for security had %d bytes, want up to 4096", longest)
	}
}

// A profile of a config.json that somebody else has written.
func TestSecurityIsGivenNoCommand(t *testing.T) {
	securityDir(t)
	const identity = "https://identity.example"
	k := &Keychain{Dir: t.TempDir(), Patience: time.Minute}
	victim := Key{identity, "victim"}
	if err := k.Save(t.Context(), victim, newLogin(9)); err != nil {
		t.Fatal(err)
	}
	command := "delete-generic-password -s " + service + ` -a "` + account(victim) + `"`
	for name, profile := range map[string]string{
		"a line break":                  "x\n" + command + "\n",
		"a line break behind a quote":   "x'\n" + command + "\n",
		"a carriage return":             "x\r" + command,
		"an option behind a quote":      `x' -s another -w '`,
		"a backslash before the quote":  `x\`,
		"a double quote":                `x" -s another`,
		"the character that ends texts": "x\x00y",
	} {
		key := Key{identity, profile}
		if err := k.Save(t.Context(), key, newLogin(9)); err == nil {
			t.Errorf("%s: it was stored", name)
		}
		if _, err := k.Load(t.Context(), victim); err != nil {
			t.Fatalf("%s: the login of another: %v", name, err)
		}
	}
	if _, err := keyring.Get("another", "x"); !errors.Is(err, keyring.ErrNotFound) {
		t.Errorf("an item of another service: %v", err)
	}
}

func TestSecurityThatFails(t *testing.T) {
	securityDir(t)
	key := keyFor(t)
	k := &Keychain{Dir: t.TempDir(), Patience: time.Minute}
	if err := k.Save(t.Context(), key, newLogin(9)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, code string
		why        string
		reason     Reason
	}{
		{"locked, over SSH", "36", "it is locked, and there was no way to ask for its password", Locked},
		{"none", "37", "this account has no default keychain", OtherReason},
		{"a wrong password", "51", "it denied access, or its password was wrong", Locked},
		{"a prompt dismissed", "128", "its prompt was dismissed", Dropped},
		{"anything else", "1", "security failed: exit status 1", OtherReason},
	} {
		t.Run(tt.name, func(t *testing.T) {
			securityFails(t, tt.code)
			_, loaded := k.Load(t.Context(), key)
			for doing, err := range map[string]error{
				"Load": loaded, "Save": k.Save(t.Context(), key, newLogin(10)), "Delete": k.Delete(t.Context(), key),
			} {
				away, ok := errors.AsType[*UnavailableError](err)
				if !ok || away.Why != tt.why || away.Reason != tt.reason {
					t.Errorf("%s = %v, want %q", doing, err, tt.why)
				}
			}
		})
	}
	if got, err := k.Load(t.Context(), key); err != nil || !reflect.DeepEqual(got, newLogin(9)) {
		t.Errorf("Load afterwards = %v, %v, want the old login", got, err)
	}
}

// A prompt that nobody answers goes away with whoever waited for it: answered
// later, it would write a record of before.
func TestSecurityThatHangs(t *testing.T) {
	securityFails(t, "hang")
	k := &Keychain{Dir: t.TempDir(), Patience: time.Second}
	began := time.Now()
	err := k.Save(t.Context(), keyFor(t), newLogin(9))
	if away, ok := errors.AsType[*UnavailableError](err); !ok || away.Reason != Silent {
		t.Errorf("Save = %v, want silence", err)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("Save took %v", took)
	}
	for deadline := time.Now().Add(time.Minute); len(running(t, "security")) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("security is still there")
		}
	}
}

// running are the children of this process that run a program.
func running(t *testing.T, name string) (pids []string) {
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		children, _ := os.ReadFile(list)
		pids = slices.AppendSeq(pids, strings.FieldsSeq(string(children)))
	}
	return slices.DeleteFunc(pids, func(pid string) bool {
		comm, _ := os.ReadFile("/proc/" + pid + "/comm")
		return strings.TrimSpace(string(comm)) != name
	})
}
