//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// The program with the keychain of macOS: what people and Docker see of it.
func TestMacOSKeychain(t *testing.T) {
	flags, security := testenv.MacOSKeychain(t)
	exe := filepath.Join(t.TempDir(), program)
	args := append([]string{"build", "-ldflags=-s -w", "-o", exe}, flags...)
	if out, err := exec.CommandContext(t.Context(), "go", append(args, ".")...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p := newPlace(t)
	p.program = exe
	fails := filepath.Join(security, "fails")
	login := func(user string) outcome {
		return p.run(testPassword, "login", "--registry", "127.0.0.1:5000", "--yes", "--username", user, "--password-stdin")
	}

	for _, tt := range []struct {
		name, user string
		sealed     bool
	}{
		{"a login that fits", testUser, false},
		{"a login that does not", manyRoles, true},
	} {
		o := login(tt.user)
		if o.code != exitOK || !strings.Contains(o.stdout+o.stderr, "the macOS keychain, item docker-credential-dtz") {
			t.Fatalf("%s: login: %+v", tt.name, o)
		}
		if o := p.run("127.0.0.1:5000", "get"); o.code != exitOK || !strings.Contains(o.stdout, `"Username":"bearer"`) {
			t.Errorf("%s: get: exit code %d; it said %q", tt.name, o.code, o.stderr)
		}
		sealed, err := filepath.Glob(filepath.Join(p.home, ".local/state", program, "logins", "*.sealed"))
		if err != nil || len(sealed) > 0 != tt.sealed {
			t.Errorf("%s: sealed files: %q, %v", tt.name, sealed, err)
		}
	}

	// Over SSH the keychain is locked (errSecInteractionNotAllowed).
	if err := os.WriteFile(fails, []byte("36"), 0o600); err != nil {
		t.Fatal(err)
	}
	if o := p.run("127.0.0.1:5000", "get"); o.code != exitFailure || !strings.Contains(o.stderr, "it is locked, and there was no way to ask for its password") {
		t.Errorf("get from a locked keychain: %+v", o)
	}
	if o := login(testUser); o.code != exitFailure || !strings.Contains(o.stderr, "\nhint: ") {
		t.Errorf("login into a locked keychain: %+v", o)
	}
	if err := os.Remove(fails); err != nil {
		t.Fatal(err)
	}
	if o := p.run("127.0.0.1:5000", "get"); o.code != exitOK {
		t.Errorf("get after it was unlocked: exit code %d; it said %q", o.code, o.stderr)
	}
	if o := p.run("", "logout"); o.code != exitOK {
		t.Errorf("logout: %+v", o)
	}
	if items, err := os.ReadFile(filepath.Join(security, "items.json")); err != nil || string(items) != "{}" {
		t.Errorf("logout left %d bytes in the keychain, %v", len(items), err)
	}
}
