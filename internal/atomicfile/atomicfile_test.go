package atomicfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"
)

func TestWriteReplacesWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record")
	for _, content := range []string{"a long first content", "short", ""} {
		if err := Write(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != content {
			t.Errorf("after Write(%q) the file holds %q, %v", content, got, err)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode() != 0o600 {
		t.Errorf("mode = %v, want -rw-------", info.Mode())
	}
}

// Who has the file open goes on reading what it was.
func TestWriteMakesANewFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record")
	if err := Write(path, []byte("before")); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("after")); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path); err != nil || os.SameFile(before, after) {
		t.Errorf("it was written in place: %v", err)
	}
}

func TestWriteThatFailsLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "record")
	if err := os.Mkdir(path, 0o700); err != nil { // a folder in its place cannot be renamed over
		t.Fatal(err)
	}
	if err := Write(path, []byte("x")); err == nil {
		t.Fatal("Write over a folder succeeded")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if err := Write(filepath.Join(dir, "absent", "record"), nil); err == nil {
		t.Error("Write into an absent folder succeeded")
	}
}

func TestWriteDoesNotFollowALinkOutOfItsFolder(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "record")
	if err := os.Symlink(victim, path); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	if err := Write(path, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(victim); string(got) != "precious" {
		t.Errorf("the link's target was overwritten: %q", got)
	}
}

func TestWriteSweepsWhatKilledWritersLeft(t *testing.T) {
	testSweep(t, func(path string) error { return Write(path, []byte("x")) })
}

func TestRemoveSweepsWhatKilledWritersLeft(t *testing.T) {
	testSweep(t, func(path string) error { return errors.Join(Write(path, nil), Remove(path)) })
	testSweep(t, func(path string) error {
		if err := Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("nothing is removed: %w", err)
		}
		return nil
	})
}

// testSweep has change sweep the folder of path, and only what is to be swept.
func testSweep(t *testing.T, change func(path string) error) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "record")
	killed, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	killed.Close() // as the end of the process does
	long := time.Now().Add(-time.Hour)
	if err := os.Chtimes(killed.Name(), long, long); err != nil {
		t.Fatal(err)
	}
	living, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer living.Discard()
	if _, err := living.WriteString("of the living"); err != nil {
		t.Fatal(err)
	}
	others := []string{".record.swp", ".record.123", "record.123", ".other" + mark + "1"}
	for _, name := range others {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	folder, link := ".record"+mark+"folder", ".record"+mark+"link"
	if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
		t.Fatal(err)
	}
	others = append(others, folder)
	if os.Symlink(filepath.Join(dir, "record.123"), filepath.Join(dir, link)) == nil {
		others = append(others, link)
	}

	if err := change(path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(killed.Name()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a killed writer left is still there: %v", err)
	}
	for _, name := range others {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			t.Errorf("another's file is gone: %v", err)
		}
	}
	if err := living.Commit(); err != nil {
		t.Errorf("the file of a living writer is gone: %v", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "of the living" {
		t.Errorf("the file holds %q", got)
	}
}

// However writers and their sweeps meet, each of them succeeds, and whoever
// reads meanwhile sees a whole.
func TestManyWriteAtOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "record")
	content := func(i int) []byte { return bytes.Repeat([]byte{byte('a' + i)}, 10_000) }
	if err := Write(path, content(0)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 25 {
				if err := Write(path, content(i)); err != nil && runtime.GOOS != "windows" { // where a reader can be in the way
					t.Error(err)
				}
				if got, err := os.ReadFile(path); err == nil && !bytes.Equal(got, bytes.Repeat(got[:1], 10_000)) {
					t.Errorf("a part was seen: %d bytes", len(got))
				}
			}
		})
	}
	wg.Wait()
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestErrorsNameTheFileThatWasToBeWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "absent", "record")
	err := Write(path, nil)
	if pathErr, ok := errors.AsType[*fs.PathError](err); !ok || pathErr.Path != path {
		t.Errorf("Write says %q", err)
	}
}
