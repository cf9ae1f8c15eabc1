package store

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

func TestSlotIsHeldByOne(t *testing.T) {
	slot := LoginSlot(t.TempDir(), keyFor(t))
	unlock, err := slot.Lock(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := slot.Lock(short, nil); !errors.Is(err, ErrBusy) {
		t.Errorf("a second Lock = %v, want ErrBusy", err)
	}
	if _, err := slot.Lock(t.Context(), func() bool { return true }); !errors.Is(err, ErrGaveUp) {
		t.Errorf("a second Lock that gives up = %v, want ErrGaveUp", err)
	}
	unlock()
	unlock, err = slot.Lock(t.Context(), func() bool { return true })
	if err != nil {
		t.Fatalf("Lock of a free slot = %v", err)
	}
	unlock()
}

func TestSlotTellsHowARenewalFailed(t *testing.T) {
	slot := LoginSlot(t.TempDir(), keyFor(t))
	if _, failed := slot.Failure(); failed {
		t.Error("a new slot has a failure")
	}
	unlock, err := slot.Lock(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	want := Failure{At: received.UTC(), Kind: "refused", Why: "no"}
	if err := slot.SetFailure(want); err != nil {
		t.Fatal(err)
	}
	if got, failed := slot.Failure(); !failed || got != want {
		t.Errorf("Failure() = %+v, %v, want %+v", got, failed, want)
	}
	slot.ClearFailure()
	if _, failed := slot.Failure(); failed {
		t.Error("a cleared failure is still there")
	}
}

const longKey secret.String = "apikey-0123456789abcdefghijklmn"

func newCache(t *testing.T, dir string, key secret.String, identity, contextID string) *KeyCache {
	t.Helper()
	c, err := NewKeyCache(dir, key, identity, contextID)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestKeyCacheOpensWithItsKeyOnly(t *testing.T) {
	dir := t.TempDir()
	want := Token{"context-abc12345", "canary-token", received, time.Hour}
	cache := newCache(t, dir, longKey, "https://identity.example", "")
	if got := cache.Load(); got != (Token{}) {
		t.Fatalf("Load before Save = %+v", got)
	}
	if err := cache.Save(want); err != nil {
		t.Fatal(err)
	}
	if got := newCache(t, dir, longKey, "https://identity.example", "").Load(); got != want {
		t.Errorf("Load by another process = %+v, want %+v", got, want)
	}
	for name, other := range map[string]*KeyCache{
		"another key":              newCache(t, dir, longKey+"x", "https://identity.example", ""),
		"another identity service": newCache(t, dir, longKey, "https://identity.evil", ""),
		"another context":          newCache(t, dir, longKey, "https://identity.example", "context-abc12345"),
	} {
		other.path = cache.path // even handed the file
		if got := other.Load(); got != (Token{}) {
			t.Errorf("%s opens it: %+v", name, got)
		}
	}

	first, err := os.ReadFile(cache.seal())
	if err != nil {
		t.Fatal(err)
	}
	if err := cache.Save(want); err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(cache.seal())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(first[:saltSize], second[:saltSize]) {
		t.Error("two saves share a salt")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil || strings.Contains(string(data)+entry.Name(), "canary") || strings.Contains(string(data)+entry.Name(), longKey.Reveal()) {
			t.Errorf("%s shows a secret, or %v", entry.Name(), err)
		}
	}

	for name, damage := range map[string]func([]byte) []byte{
		"cut short":  func(b []byte) []byte { return b[:saltSize-1] },
		"without it": func(b []byte) []byte { return b[:saltSize] },
		"one bit":    func(b []byte) []byte { b[len(b)-1] ^= 1; return b },
		"its salt":   func(b []byte) []byte { b[0] ^= 1; return b },
	} {
		if err := os.WriteFile(cache.seal(), damage(bytes.Clone(second)), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := cache.Load(); got != (Token{}) {
			t.Errorf("%s changed: Load = %+v", name, got)
		}
	}
}

func TestKeyCacheKeepsNothingForAShortKey(t *testing.T) {
	dir := t.TempDir()
	cache := newCache(t, dir, "apikey-abc12345", "https://identity.example", "")
	if err := cache.Save(Token{"c", "t", received, time.Hour}); err != nil {
		t.Fatal(err)
	}
	unlock, err := cache.Slot().Lock(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("files for a key that could be guessed from them: %v", entries)
	}
}

func TestCacheDirIsTheUsersOwn(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes and owners are Unix's")
	}
	base := t.TempDir()
	open, link, file := filepath.Join(base, "open"), filepath.Join(base, "link"), filepath.Join(base, "file")
	for _, err := range []error{
		os.Mkdir(open, 0o700), os.Chmod(open, 0o755),
		os.Symlink(t.TempDir(), link),
		os.WriteFile(file, nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	refused := []string{"", open, link, file, filepath.Join(file, "below")}
	if os.Getuid() == 0 {
		foreign := filepath.Join(base, "foreign")
		if err := errors.Join(os.Mkdir(foreign, 0o700), os.Chown(foreign, 12345, 12345)); err != nil {
			t.Fatal(err)
		}
		refused = append(refused, foreign)
	}
	if dir, err := CacheDir(refused...); !errors.Is(err, ErrNoCacheDir) {
		t.Errorf("CacheDir = %q, %v, want ErrNoCacheDir", dir, err)
	}
	good := filepath.Join(base, "new", "cache")
	dir, err := CacheDir(append(refused, good)...)
	if err != nil || dir != good {
		t.Fatalf("CacheDir = %q, %v, want %q", dir, err, good)
	}
	if info, err := os.Stat(good); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("made with mode %v, %v", info.Mode(), err)
	}
}
