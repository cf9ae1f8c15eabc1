package testenv

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func wineAbsent() error {
	if err := onLinux("wine", "wineserver", windowsCompiler); err != nil {
		return err
	}
	if runtime.GOARCH != "amd64" {
		return errors.New("needs amd64")
	}
	_, err := wineLibraries()
	return err
}

const windowsCompiler = "x86_64-w64-mingw32-gcc"

// wineLibraries is the folder of Wine's own libraries for 64-bit programs.
func wineLibraries() (string, error) {
	for _, place := range []string{"/usr/lib/*/wine", "/usr/lib*/wine", "/opt/wine-*/lib*/wine"} {
		if found, _ := filepath.Glob(place + "/x86_64-windows"); len(found) > 0 {
			return found[0], nil
		}
	}
	return "", errors.New("no libraries of Wine for 64-bit programs")
}

// Windows is a Windows of its own, with nothing in its Credential Manager, on
// which programs of GOOS=windows run. Its disk Z: is this machine's root.
type Windows struct {
	dir string
}

// StartWindows starts one that ends with t. Without Wine on this machine it does
// what [Need] does.
//
// wineboot would copy 700 MB and start services that no test needs: links to the
// libraries are enough.
func StartWindows(t testing.TB) *Windows {
	t.Helper()
	Need(t, "wine")
	dir, err := shortDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &Windows{dir}
	if err := w.install(); err != nil {
		t.Fatal(err)
	}
	// Started by the first program it would keep that one's output open.
	stop, err := Start(w.command(context.Background(), "wineserver", "--foreground", "--persistent"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = w.command(context.Background(), "wineserver", "--kill").Run() // and all programs
		stop()
	})
	return w
}

// install makes the disks.
func (w *Windows) install() error {
	system := filepath.Join(w.dir, "drive_c", "windows", "system32")
	for _, dir := range []string{
		system, filepath.Join(w.dir, "dosdevices"),
		filepath.Join(w.User(), "AppData", "Roaming"), filepath.Join(w.User(), "AppData", "Local"),
	} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	libraries, err := wineLibraries()
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(libraries)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := os.Symlink(filepath.Join(libraries, entry.Name()), filepath.Join(system, entry.Name())); err != nil {
			return err
		}
	}
	return errors.Join(
		os.Symlink("../drive_c", filepath.Join(w.dir, "dosdevices", "c:")),
		os.Symlink("/", filepath.Join(w.dir, "dosdevices", "z:")),
		// Else the first program runs wineboot.
		os.WriteFile(filepath.Join(w.dir, ".update-timestamp"), []byte("disable\n"), 0o600),
		addRandomness(filepath.Join(system, "bcryptprimitives.dll")),
	)
}

// ProcessPrng is what Go takes its random numbers from, and what Wine lacks
// before version 9. What it stands on is SystemFunction036 (ntsecapi.h).
const bcryptprimitives = `#include <windows.h>
#include <ntsecapi.h>

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size)
{
	return RtlGenRandom(data, (ULONG)size);
}
`

func addRandomness(dll string) error {
	if _, err := os.Stat(dll); err == nil {
		return nil
	}
	cc := exec.Command(windowsCompiler, "-shared", "-o", dll, "-x", "c", "-", "-ladvapi32")
	cc.Stdin = strings.NewReader(bcryptprimitives)
	if out, err := cc.CombinedOutput(); err != nil {
		return fmt.Errorf("building bcryptprimitives.dll: %w\n%s", err, out)
	}
	return nil
}

// Command runs a program. It has the environment of a new account of this
// Windows, and what is added to Env. Let it write to files: a service of Windows
// that it is the first to need keeps a pipe open.
func (w *Windows) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	return w.command(ctx, "wine", append([]string{program}, args...)...)
}

func (w *Windows) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + w.dir,
		"WINEPREFIX=" + w.dir,
		"WINEARCH=win64",
		"USER=alice",
		"WINEDEBUG=-all",
		// Else it offers to download .NET and Gecko, and writes menus.
		"WINEDLLOVERRIDES=mscoree,mshtml,winemenubuilder.exe=",
	}
	return cmd
}

// Path is a path of this machine as programs of this Windows write it.
func (w *Windows) Path(path string) string {
	return `Z:` + strings.ReplaceAll(path, "/", `\`)
}

// User is where %USERPROFILE% is on this machine.
func (w *Windows) User() string { return filepath.Join(w.dir, "drive_c", "users", "alice") }

// TestBinaries compiles the tests of packages for Windows, and returns the folder
// where each is as NAME.test.exe.
func (w *Windows) TestBinaries(t testing.TB, packages ...string) (dir string) {
	t.Helper()
	dir = filepath.Join(w.dir, "tests") + string(filepath.Separator)
	args := []string{"test", "-c", "-ldflags=-s -w", "-overlay", w.overlay(t), "-o", dir}
	cmd := exec.CommandContext(t.Context(), "go", append(args, packages...)...)
	cmd.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compiling for Windows: %v\n%s", err, out)
	}
	return dir
}

// overlay lets os.RemoveAll, and so testing's TempDir, work on Wine 8: Go falls
// back on an older call where Windows says that it does not know the new one, in
// any of three ways, and Wine says it in a fourth (STATUS_NOT_IMPLEMENTED).
func (w *Windows) overlay(t testing.TB) (path string) {
	t.Helper()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	original := filepath.Join(string(bytes.TrimSpace(root)), "src", "internal", "syscall", "windows", "at_windows.go")
	source, err := os.ReadFile(original)
	if err != nil {
		t.Fatal(err)
	}
	const known = "case STATUS_INVALID_INFO_CLASS,"
	return writeOverlay(t, w.dir, map[string][]byte{
		original: bytes.ReplaceAll(source, []byte(known), []byte(known+" NTStatus(0xc0000002),")),
	})
}

// writeOverlay writes, below dir, what go build's -overlay takes: other contents
// for files.
func writeOverlay(t testing.TB, dir string, contents map[string][]byte) (path string) {
	t.Helper()
	replace := map[string]string{}
	for original, content := range contents {
		replace[original] = filepath.Join(dir, fmt.Sprintf("overlay%d.go", len(replace)))
		if err := os.WriteFile(replace[original], content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
