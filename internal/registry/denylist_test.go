package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func sumOf(apiKey string) string {
	sum := sha256.Sum256([]byte(apiKey))
	return hex.EncodeToString(sum[:])
}

// writeDenyList replaces the file as it should be.
func writeDenyList(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func newDenyList(t testing.TB, text string) *DenyList {
	t.Helper()
	path := filepath.Join(t.TempDir(), "deny.json")
	writeDenyList(t, path, text)
	d, err := OpenDenyList(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func denying(identities, apiKeys string) string {
	return fmt.Sprintf(`{"identities": [%s], "apiKeys": [%s]}`, identities, apiKeys)
}

func TestDenyListRefuses(t *testing.T) {
	sum := sumOf(goodKey)
	tests := []struct {
		name string
		text string
		want string
	}{
		{"nothing", "", "not JSON"},
		{"half a file", `{"identities": ["identity-abc12345", "ident`, "not JSON"},
		{"two objects", `{}{}`, "not JSON"},
		{"an array", `[]`, "not a JSON object"},
		{"null", `null`, "not a JSON object"},
		{"a byte order mark", "\ufeff{}", "begins with a byte order mark, which JSON does not"},
		{"broken UTF-8", "{\"identities\": [\"\xff\"]}", "not UTF-8"},
		{"another member", `{"identities": [], "keys": []}`, "member 2 is neither identities nor apiKeys"},
		{"a member in another case", `{"apikeys": []}`, "member in the wrong case: apiKeys"},
		{"a member twice", `{"apiKeys": [], "apiKeys": []}`, "duplicate member"},
		{"null for an array", `{"identities": null}`, "identities is not an array of strings"},
		{"a string for an array", `{"identities": "identity-abc12345"}`, "identities is not an array of strings"},
		{"a number among strings", `{"apiKeys": ["` + sum + `", 1]}`, "apiKeys is not an array of strings"},
		{"an empty identity", denying(`""`, ""), "identities[0] is not an identity's id"},
		{"a kind and no identity", denying(`"identity-"`, ""), "identities[0] is not an identity's id"},
		{"a context among identities", denying(`"identity-abc12345", "context-abc12345"`, ""), "identities[1] is not an identity's id"},
		{"an API key among identities", denying(`"apikey-abc12345"`, ""), "identities[0] is not an identity's id"},
		{"an address among identities", denying(`"alice@example.com"`, ""), "identities[0] is not an identity's id"},
		{"an identity and a space", denying(`"identity-abc12345 "`, ""), "identities[0] is not an identity's id"},
		{"an identity of a kilobyte", denying(`"`+strings.Repeat("a", 1<<10)+`"`, ""), "identities[0] is not an identity's id"},
		{"an identity in upper case", denying(`"abc12345", "identity-ABC12345"`, ""), "identities[1] is not an identity's id"},
		{"a kind in upper case", denying(`"IDENTITY-abc12345"`, ""), "identities[0] is not an identity's id"},
		{"a key itself", denying("", `"`+goodKey+`"`), "apiKeys[0] is not a SHA-256 in hex"},
		{"a hash that is too short", denying("", `"`+sum[2:]+`"`), "apiKeys[0] is not a SHA-256 in hex"},
		{"a hash that is too long", denying("", `"`+sum+`00"`), "apiKeys[0] is not a SHA-256 in hex"},
		{"a hash with a prefix", denying("", `"sha256:`+sum+`"`), "apiKeys[0] is not a SHA-256 in hex"},
		{"a hash that is no hex", denying("", `"`+sum+`", "`+strings.Repeat("z", 64)+`"`), "apiKeys[1] is not a SHA-256 in hex"},
	}
	for _, tt := range tests {
		_, err := parseDenials([]byte(tt.text))
		if got := errorText(err); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		path := filepath.Join(t.TempDir(), "deny.json")
		writeDenyList(t, path, tt.text)
		if _, err := OpenDenyList(path, nil); errorText(err) != "reading the deny-list: "+path+": "+tt.want {
			t.Errorf("%s: %v, want an error that names the file and says %q", tt.name, err, tt.want)
		}
	}
}

// A list that is put together in a hurry has to take effect.
func TestDenyListMaySayThingsTwice(t *testing.T) {
	const uuid = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
	sum := sumOf(goodKey)
	for name, text := range map[string]string{
		"an identity twice":             denying(`"identity-abc12345", "identity-abc12345"`, ""),
		"an identity in both spellings": denying(`"identity-abc12345", "abc12345"`, ""),
		"a UUID in both cases":          denying(`"`+uuid+`", "`+strings.ToUpper(uuid)+`"`, ""),
		"a hash in both cases":          denying("", `"`+sum+`", "`+strings.ToUpper(sum)+`"`),
	} {
		list, err := parseDenials([]byte(text))
		if err != nil || len(list.identities)+len(list.apiKeys) != 1 {
			t.Errorf("%s: %+v, %v, want one entry", name, list, err)
		}
	}
}

func TestDenyListIsAFile(t *testing.T) {
	folder := t.TempDir()
	if _, err := OpenDenyList(filepath.Join(folder, "missing"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing one: %v", err)
	}
	if _, err := OpenDenyList(folder, nil); err == nil || !strings.HasSuffix(err.Error(), "not a regular file") {
		t.Errorf("a folder: %v", err)
	}
	path := filepath.Join(folder, "large")
	if err := os.WriteFile(path, bytes.Repeat([]byte(" "), maxDenyListSize+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDenyList(path, nil); err == nil || !strings.HasSuffix(err.Error(), "over 8 MiB") {
		t.Errorf("a large one: %v", err)
	}
}

func TestDenied(t *testing.T) {
	const uuid = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
	deniedText := func(subject string) string {
		return subject + " is on this registry's deny-list; a new login does not help"
	}
	bearer := func(subject string) http.Header {
		return http.Header{"Authorization": {"Bearer " + tokenOf(subject, keyContexts[0])}}
	}
	tests := []struct {
		name   string
		list   string
		header http.Header
		status int // 0 is let in
		text   string
	}{
		{"an empty list", `{}`, bearer("identity-abc12345"), 0, ""},
		{"another identity", denying(`"identity-zzz99999"`, ""), bearer("identity-abc12345"), 0, ""},
		{"an identity", denying(`"identity-zzz99999", "identity-abc12345"`, ""), bearer("identity-abc12345"), 403, deniedText("identity-abc12345")},
		{"an identity, listed in its other spelling", denying(`"abc12345"`, ""), bearer("identity-abc12345"), 403, deniedText("identity-abc12345")},
		{"an identity that the token spells otherwise", denying(`"identity-abc12345"`, ""), bearer("abc12345"), 403, deniedText("abc12345")},
		{"a UUID in the other case", denying(`"identity-`+uuid+`"`, ""), bearer(strings.ToUpper(uuid)), 403, deniedText(strings.ToUpper(uuid))},
		{"an identity by its cookie", denying(`"abc12345"`, ""), http.Header{"Cookie": {"dtz-auth=" + goodToken()}}, 403, deniedText("identity-abc12345")},
		{"an identity by its API key", denying(`"abc12345"`, ""), http.Header{"X-Api-Key": {goodKey}}, 403, deniedText("identity-abc12345")},
		{"a context of an identity's letters", denying(`"abc12345"`, ""), bearer("context-abc12345"), 0, ""},
		{"an API key", denying("", `"`+sumOf(goodKey)+`"`), http.Header{"X-Api-Key": {goodKey}}, 401, refusedKey},
		{"an API key, in upper case hex", denying("", `"`+strings.ToUpper(sumOf(goodKey))+`"`), http.Header{"Authorization": {basic("apikey", goodKey)}}, 401, refusedKey},
		{"an API key in a context", denying("", `"`+sumOf(goodKey)+`"`), http.Header{"X-Api-Key": {goodKey}, "X-Dtz-Context": {secondContext}}, 401, refusedKey},
		{"another API key", denying("", `"`+sumOf(goodKey+"x")+`"`), http.Header{"X-Api-Key": {goodKey}}, 0, ""},
		{"the token of a denied API key", denying("", `"`+sumOf(goodKey)+`"`), bearer("identity-abc12345"), 0, ""},
	}
	for _, tt := range tests {
		a := newTableHandler(t, new(monday), nil).Authenticator
		a.DenyList = newDenyList(t, tt.list)
		for range 2 { // the second time from memory
			r := httptest.NewRequest("GET", "/v2/", nil)
			r.Header = tt.header
			_, err := a.Authenticate(r)
			status, text := 0, ""
			if e, ok := errors.AsType[*Error](err); ok {
				status, text = e.Status, e.Message
			}
			if status != tt.status || text != tt.text || err != nil && status == 0 {
				t.Errorf("%s: %d %q, %v, want %d %q", tt.name, status, text, err, tt.status, tt.text)
			}
		}
	}
}

// Whoever is denied has as many spellings of his key as the identity service
// takes.
func TestADeniedKeyInAnotherSpelling(t *testing.T) {
	const uuid = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
	tests := []struct {
		name   string
		listed string
		sent   string
		denied bool
	}{
		{"without its kind", "apikey-abc12345", "abc12345", true},
		{"a UUID in upper case", "apikey-" + uuid, "apikey-" + strings.ToUpper(uuid), true},
		{"a UUID in upper case, without its kind", "apikey-" + uuid, strings.ToUpper(uuid), true},
		{"listed as it is sent", "abc12345", "abc12345", true},
		{"another key", "apikey-abc12345", "abc12346", false},
		{"letters, which are not one in either case", "apikey-abc12345", "apikey-ABC12345", false},
	}
	for _, tt := range tests {
		a := &Authenticator{Verifier: newVerifier(t, testConfig()), Exchange: func(context.Context, string, string) (string, error) {
			return goodToken(), nil
		}}
		a.DenyList = newDenyList(t, denying("", `"`+sumOf(tt.listed)+`"`))
		if _, err := ask(t.Context(), a, tt.sent); errors.Is(err, errKeyDenied) != tt.denied || err != nil && !tt.denied {
			t.Errorf("%s: %v, want it denied: %v", tt.name, err, tt.denied)
		}
	}
}

// The hash of no text at all, listed by mistake, is that of no key.
func TestTheHashOfNothingDeniesNoKey(t *testing.T) {
	d := newDenyList(t, denying("", `"`+sumOf("")+`"`))
	for _, key := range []string{goodKey, "identity-abc12345", "no key"} {
		if d.hasAPIKey(key) {
			t.Errorf("%q is denied", key)
		}
	}
}

func TestADeniedKeyIsNeverSent(t *testing.T) {
	a := newTableHandler(t, new(monday), nil).Authenticator
	a.DenyList = newDenyList(t, denying("", `"`+sumOf(goodKey)+`"`))
	a.Exchange = func(context.Context, string, string) (string, error) {
		t.Error("sent to the identity service")
		return "", ErrKeyRefused
	}
	if _, err := ask(t.Context(), a, goodKey); !errors.Is(err, errKeyDenied) {
		t.Errorf("%v, want %v", err, errKeyDenied)
	}
}

// Whoever gets on the list is out with his next request, though he and his key
// are remembered; and in again as soon as he is off it.
func TestTheListChanges(t *testing.T) {
	d := newDenyList(t, `{}`)
	a := newTableHandler(t, new(monday), nil).Authenticator
	a.DenyList = d
	try := func(when string, wantToken, wantKey bool) {
		t.Helper()
		r := httptest.NewRequest("GET", "/v2/", nil)
		r.Header.Set("Authorization", "Bearer "+goodToken())
		if _, err := a.Authenticate(r); (err == nil) != wantToken {
			t.Errorf("%s: a token: %v", when, err)
		}
		if _, err := ask(t.Context(), a, goodKey); (err == nil) != wantKey {
			t.Errorf("%s: a key: %v", when, err)
		}
	}
	change := func(text string) {
		writeDenyList(t, d.path, text)
		d.refresh()
	}
	try("at first", true, true)
	change(denying(`"abc12345"`, ""))
	try("with the identity denied", false, false)
	change(denying("", `"`+sumOf(goodKey)+`"`))
	try("with the key denied", true, false)
	change(denying("", `"`))
	try("with half a file", true, false)
	change(`{}`)
	try("with nobody denied", true, true)
	if got := a.Stats().Exchanges; got != 1 {
		t.Errorf("%d exchanges, want 1", got)
	}
}

// A key may be denied while its exchange waits or runs.
func TestAKeyIsDeniedDuringItsExchange(t *testing.T) {
	a := newTableHandler(t, new(monday), nil).Authenticator
	a.DenyList = newDenyList(t, `{}`)
	known := a.Exchange
	a.Exchange = func(ctx context.Context, apiKey, contextID string) (string, error) {
		writeDenyList(t, a.DenyList.path, denying("", `"`+sumOf(goodKey)+`"`))
		a.DenyList.refresh()
		return known(ctx, apiKey, contextID)
	}
	if _, err := ask(t.Context(), a, goodKey); !errors.Is(err, errKeyDenied) {
		t.Errorf("%v, want %v", err, errKeyDenied)
	}
}

func TestRunReadsAChangedFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "deny.json")
		writeDenyList(t, path, denying(`"abc12345"`, ""))
		var log logged
		d, err := OpenDenyList(path, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			},
		})))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go d.Run(ctx)
		step := func(name, wantDenied, wantLog string, change func() error) {
			t.Helper()
			if err := change(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
			synctest.Wait()
			for _, id := range []string{"identity-abc12345", "identity-zzz99999"} {
				if got := d.hasIdentity(id); got != (id == wantDenied) {
					t.Errorf("%s: %s is denied: %v", name, id, got)
				}
			}
			if got := log.take(); got != wantLog {
				t.Errorf("%s: logged %q, want %q", name, got, wantLog)
			}
		}
		write := func(text string) func() error {
			return func() error { return os.WriteFile(path, []byte(text), 0o600) }
		}
		const kept = `level=ERROR msg="deny-list not read; the old one stays in force" error="`
		const oneIdentity = "identities=1 api_keys=0\n"
		step("unchanged", "identity-abc12345", "", func() error { return nil })
		step("written again", "identity-abc12345", "", write(denying(`"abc12345"`, "")))
		step("half-written", "identity-abc12345", kept+path+": not JSON\"\n", write(`{"identities": ["zzz9`))
		step("written", "identity-zzz99999", `level=INFO msg="deny-list read" file=`+path+" "+oneIdentity, write(denying(`"zzz99999"`, "")))
		step("removed", "identity-zzz99999", kept+"open "+path+": no such file or directory\"\n", func() error { return os.Remove(path) })
		step("empty", "identity-zzz99999", kept+path+": not JSON\"\n", write(""))
		step("back as it was", "identity-zzz99999", "", write(denying(`"zzz99999"`, "")))
		step("replaced by a link", "identity-abc12345", `level=INFO msg="deny-list read" file=`+path+" "+oneIdentity, func() error {
			writeDenyList(t, path+".2", denying(`"abc12345"`, ""))
			os.Remove(path)
			return os.Symlink(path+".2", path)
		})
		cancel()
		synctest.Wait() // else the bubble does not end
	})
}

// A file is not read again once it is sure that it is the same.
func TestASettledFileIsLeftAlone(t *testing.T) {
	d := newDenyList(t, denying(`"abc12345"`, ""))
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(d.path, old, old); err != nil {
		t.Fatal(err)
	}
	d.refresh()
	if info, err := os.Stat(d.path); err != nil || !d.hasSeen(info) {
		t.Errorf("an old file would be read again: %v", err)
	}
	if err := os.WriteFile(d.path, []byte(denying(`"zzz99999"`, "")), 0o600); err != nil { // of the same size
		t.Fatal(err)
	}
	d.refresh()
	if d.hasIdentity("identity-abc12345") || !d.hasIdentity("identity-zzz99999") {
		t.Error("the old list is still in force")
	}
}
