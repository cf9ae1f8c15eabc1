package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var fuzzedKey = Key{Identity: "https://identity.example", Profile: "default"}

// Whatever lies in the keychain under our name, be it another program's: a file
// is opened only if it is this login's own, and nothing of the item is told.
func FuzzItem(f *testing.F) {
	parent := f.TempDir()
	k := &Keychain{Dir: filepath.Join(parent, "logins")}
	fileKey := bytes.Repeat([]byte{7}, sealedKeySize) // the same in each of the processes that fuzz
	own := fuzzedKey.id() + "-0123456789abcdef" + sealedSuffix
	// Each says whose it is. All but the login's own must stay shut, although the
	// item has their key.
	for name, subject := range map[string]string{
		own: "own",
		"0123456789abcdef-0123456789abcdef" + sealedSuffix: "of another login",
		fuzzedKey.id() + ".json":                           "of the other store",
		"../" + own:                                        "outside",
		"../outside":                                       "outside",
	} {
		login := newLogin(9)
		login.Subject = subject
		data, err := login.encode()
		if err != nil {
			f.Fatal(err)
		}
		if err := k.writeSealed(name, fileKey, data); err != nil {
			f.Fatal(err)
		}
		for _, spelling := range []string{name, "./" + name, "/" + name, filepath.Join(k.Dir, name), own + "/../" + name, name + "\x00", "..\\" + name} {
			text, err := json.Marshal(item{File: spelling, Key: fileKey})
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(text))
		}
		text, err := json.Marshal(item{Record: data, File: strings.ToUpper(name), Key: fileKey[1:]})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	for _, text := range []string{
		"", "null", "canary-password", `{"login":{"password":"canary"}}`, `{"login":null,"file":"` + own + `"}`, `{"login":"canary"}`,
		`{"login":{"v":2,"token":"canary"}}`, `{"login":{"v":1,"tokens":[{"token":"canary","received":1,"lifetime":9223372036854775807}]}}`,
		`{"login":{"v":1,"key":"a\nb"}}`, `{"login":{"v":1,"tokens":[{"token":"a\r\nX-Evil: 1","received":1,"lifetime":1}]}}`,
		strings.Repeat(`{"login":`, 100_000), `{"file":"` + strings.Repeat("a", 64<<10) + `"}`, `{"file":"\u001b[31m"}`, "\xff\x00",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		login, err := k.open(fuzzedKey, text)
		if err != nil {
			var damaged *DamagedError
			if !errors.As(err, &damaged) && !errors.Is(err, errSealedGone) {
				t.Errorf("open(%q) = %#v, want a DamagedError", text, err)
			}
			told := strings.ReplaceAll(err.Error(), own, "")
			for i := 0; i+16 <= len(text); i++ {
				if strings.Contains(told, text[i:i+16]) {
					t.Fatalf("open(%q) = %q, which quotes it", text, err)
				}
			}
			return
		}
		var it item
		if err := json.Unmarshal([]byte(text), &it); err != nil {
			t.Fatal(err)
		}
		if it.File != "" && (it.File != own || login.Subject != "own") {
			t.Errorf("%q opens the file %q, that of %q", text, it.File, login.Subject)
		}
		sound(t, login)
		data, err := login.encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(item{Record: data})
		if err != nil {
			t.Fatal(err)
		}
		if same, err := k.open(fuzzedKey, string(again)); err != nil || !reflect.DeepEqual(same, login) {
			t.Errorf("%q is written as %q, which is read as %+v, %v", text, again, same, err)
		}
	})
}

// sound checks what a login is used for: its secrets are words that a header and
// a line can hold, its tokens end.
func sound(t *testing.T, l *Login) {
	t.Helper()
	words := []string{l.Key.Reveal()}
	for _, token := range l.Tokens {
		words = append(words, token.Access.Reveal())
		if end := token.Expires(); token.Access == "" || end.Before(token.Received) || end.Year() > 100_000 {
			t.Errorf("a token from %v to %v", token.Received, end)
		}
	}
	for _, word := range words {
		if strings.ContainsFunc(word, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("a secret is %q", word)
		}
	}
	if l.Key == "" && len(l.Tokens) == 0 {
		t.Error("a login without a secret")
	}
}

// A sealed file that was changed is never opened, and what is in one that was
// not is read with care all the same: an older program may have written it.
func FuzzKeyCache(f *testing.F) {
	c, err := NewKeyCache(f.TempDir(), longKey, fuzzedKey.Identity, "")
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{
		`{"context":"context-abc12345","token":"canary-token","received":1,"lifetime":3600}`, `{"token":"","received":1,"lifetime":1}`,
		`{"token":"canary\ntoken","received":1,"lifetime":1}`, `{"token":"canary-token","received":-1,"lifetime":4611686018427387904}`,
		`{"token":"a","token":"b","received":1,"lifetime":1,"TOKEN":"c d"}`, strings.Repeat("[", 100_000), "null", "", "\xff\x00",
	} {
		f.Add([]byte(text), 0, byte(0), 0)
		f.Add([]byte(text), saltSize+3, byte(1), 0)
		f.Add([]byte(text), 3, byte(0x80), 0)
		f.Add([]byte(text), 0, byte(0), 1)
		f.Add([]byte(text), 0, byte(0), len(text)+16)
		f.Add([]byte(text), 0, byte(0), -1)
	}
	f.Fuzz(func(t *testing.T, plain []byte, at int, flip byte, cut int) {
		file, err := c.sealed(plain)
		if err != nil {
			t.Fatal(err)
		}
		whole := string(file)
		if at >= 0 && at < len(file) {
			file[at] ^= flip
		}
		switch {
		case cut < 0:
			file = append(file, byte(cut))
		case cut <= len(file):
			file = file[:len(file)-cut]
		}
		if err := os.WriteFile(c.seal(), file, 0o600); err != nil {
			t.Fatal(err)
		}
		got := c.Load()
		if got == (Token{}) {
			return
		}
		if string(file) != whole {
			t.Errorf("what was changed is opened: %q, in place %d by %x, %d bytes shorter", plain, at, flip, cut)
		}
		sound(t, &Login{Tokens: []Token{got}})
		if err := c.Save(got); err != nil {
			t.Fatal(err)
		}
		if again := c.Load(); again != got {
			t.Errorf("%+v is saved and loaded as %+v", got, again)
		}
	})
}

// The notes file says how a renewal failed. What is in it, others have to be able
// to read again.
func FuzzFailure(f *testing.F) {
	s := Slot{filepath.Join(f.TempDir(), "slot")}
	for _, text := range []string{
		`{"at":"2026-01-02T03:04:05Z","kind":"refused","why":"no"}`, `{"at":"9999-12-31T23:59:59+14:00"}`, `{"at":0}`, `{}`, "null", "[]", "",
		`{"why":"\u001b[31m` + strings.Repeat("a", 64<<10) + `"}`, strings.Repeat("[", 100_000), "\xff\x00", `{"at":"2026-01-02T03:04:05Z","at":"x"}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(s.path+".failure", data, 0o600); err != nil {
			t.Fatal(err)
		}
		note, failed := s.Failure()
		if !failed {
			if note != (Failure{}) {
				t.Errorf("%q is no failure, and yet %+v", data, note)
			}
			return
		}
		if err := s.SetFailure(note); err != nil {
			t.Fatalf("%q is read as %+v, which cannot be written: %v", data, note, err)
		}
		again, failed := s.Failure()
		if !failed || !again.At.Equal(note.At) || again.Kind != note.Kind || again.Why != note.Why {
			t.Errorf("%+v is written and read as %+v, %v", note, again, failed)
		}
		s.ClearFailure()
		if _, failed := s.Failure(); failed {
			t.Error("forgotten, and still there")
		}
	})
}
