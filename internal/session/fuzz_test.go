package session

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The file of an API key may be any file, by mistake or malice: what is taken
// from it is one word, and what is told of it nothing.
func FuzzKeyFile(f *testing.F) {
	path := filepath.Join(f.TempDir(), "key")
	for _, text := range []string{
		"apikey-abc12345", "apikey-abc12345\n", "\xef\xbb\xbfapikey-abc12345\r\n", "apikey-abc12345\napikey-def12345", "apikey abc12345", "DTZ_API_KEY=apikey-abc12345",
		"", " \n", "\x1b[31mapikey-abc12345", "apikey-\u202eabc12345", "apikey-\x00", "\xff", strings.Repeat("a", maxKeyFile), strings.Repeat("a", maxKeyFile+1),
		strings.Repeat("a", 64<<10), "apikey-abc12345\u00a0", "-----BEGIN KEY-----\nMIIC",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		key, source, err := readKey(path, FromBoundFile)
		if err != nil {
			told := strings.ReplaceAll(err.Error(), path, "")
			for i := 0; i+16 <= len(data); i++ {
				if strings.Contains(told, string(data[i:i+16])) {
					t.Fatalf("readKey of %q = %q, which quotes it", data, err)
				}
			}
			if key != "" || len(told) > 200 {
				t.Errorf("readKey of %q = %q, %q", data, key.Reveal(), err)
			}
			return
		}
		word := key.Reveal()
		if word == "" || len(word) > maxKeyFile || strings.ContainsFunc(word, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("readKey of %q = %q, want a word that a header can hold", data, word)
		}
		if source != FromBoundFile || strings.TrimSpace(string(data)) != word {
			t.Errorf("readKey of %q = %q from %s", data, word, source)
		}
	})
}
