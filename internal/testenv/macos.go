package testenv

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

const ourModule = "github.com/DownToZero-Cloud/docker-credential-dtz"

// SecurityDir names, to a test binary, the folder of the stand-in for macOS's
// security: see package security.
const SecurityDir = "DTZ_TEST_SECURITY_DIR"

// MacOSKeychain makes programs for this machine use the keychain as they do on
// macOS: with go-keyring's code for macOS, and ours, and with a stand-in for
// /usr/bin/security. They are built with flags; dir is the stand-in's folder.
func MacOSKeychain(t testing.TB) (flags []string, dir string) {
	t.Helper()
	if err := onLinux("go"); err != nil {
		t.Skip(err)
	}
	m := macOS{t, t.TempDir()}
	security := filepath.Join(m.dir, "security")
	m.run("build", "-o", security, ourModule+"/internal/testenv/security")

	// go build replaces no file of the module cache.
	const keyringModule = "github.com/zalando/go-keyring"
	keyring := filepath.Join(m.dir, "go-keyring")
	if err := os.CopyFS(keyring, os.DirFS(m.run("list", "-m", "-f", "{{.Dir}}", keyringModule))); err != nil {
		t.Fatal(err)
	}
	calls := bytes.ReplaceAll(m.read(filepath.Join(keyring, "keyring_darwin.go")), []byte("/usr/bin/security"), []byte(security))
	m.write(filepath.Join(keyring, "keyring_linux.go"), calls)
	if err := os.Remove(filepath.Join(keyring, "keyring_unix.go")); err != nil {
		t.Fatal(err)
	}
	root := m.run("list", "-m", "-f", "{{.Dir}}", ourModule)
	modfile := filepath.Join(m.dir, "go.mod")
	m.write(modfile, append(m.read(filepath.Join(root, "go.mod")), "\nreplace "+keyringModule+" => "+keyring+"\n"...))
	m.write(filepath.Join(m.dir, "go.sum"), m.read(filepath.Join(root, "go.sum")))

	store := filepath.Join(root, "internal", "store")
	overlay := writeOverlay(t, m.dir, map[string][]byte{
		filepath.Join(store, "keychain_unix.go"):  m.read(filepath.Join(store, "keychain_darwin.go")),
		filepath.Join(store, "reachable_unix.go"): m.read(filepath.Join(store, "reachable_other.go")),
		filepath.Join(store, "children_linux.go"): []byte(childrenOnLinux),
	})
	return []string{"-modfile", modfile, "-overlay", overlay}, m.dir
}

// macOS is where the parts of [MacOSKeychain] are put together.
type macOS struct {
	testing.TB
	dir string
}

func (m macOS) run(args ...string) string {
	m.Helper()
	cmd := exec.CommandContext(m.Context(), "go", args...)
	out, err := cmd.Output()
	if err != nil {
		m.Fatal(cmd, ": ", err)
	}
	return string(bytes.TrimSpace(out))
}

var constraint = regexp.MustCompile(`(?m)^//go:build .*$`)

// read reads a file, without a constraint of what it is built for.
func (m macOS) read(path string) []byte {
	m.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		m.Fatal(err)
	}
	return constraint.ReplaceAll(text, nil)
}

func (m macOS) write(path string, text []byte) {
	m.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		m.Fatal(err)
	}
}

// childrenOnLinux is what sysctl(3) tells on macOS.
const childrenOnLinux = `package store

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

func childrenCalled(name string) (pids []int) {
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for pid := range strings.FieldsSeq(string(text)) {
			comm, _ := os.ReadFile("/proc/" + pid + "/comm")
			if n, err := strconv.Atoi(pid); err == nil && strings.TrimSpace(string(comm)) == name {
				pids = append(pids, n)
			}
		}
	}
	return pids
}
`
