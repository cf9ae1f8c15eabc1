package session

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// loginFile is where the default login lies.
func (w *world) loginFile() string {
	w.t.Helper()
	files, err := filepath.Glob(w.path(store.FileName, "*.json"))
	if err != nil || len(files) != 1 {
		w.t.Fatalf("%d login files, %v", len(files), err)
	}
	return files[0]
}

func TestOutcomesAreKeptApart(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		prepare func(w *world)
		env     []string
		address config.Address
		outcome Outcome
		text    string // DIR stands for the machine's disk
	}{
		{
			name: "the platform's registry on a new machine", address: registry,
			outcome: NotLoggedIn, text: `cr.dtz.rocks: not logged in; run "docker-credential-dtz login"`,
		},
		{
			name: "the platform's registry on another port", address: "cr.dtz.rocks:3214",
			outcome: NotLoggedIn, text: `cr.dtz.rocks:3214: not logged in; run "docker-credential-dtz login --registry cr.dtz.rocks:3214"`,
		},
		{
			name: "another registry that the environment lists", address: other, env: []string{"DTZ_REGISTRIES=127.0.0.1:5000"},
			outcome: NotLoggedIn, text: `127.0.0.1:5000: not logged in; run "docker-credential-dtz login --registry 127.0.0.1:5000"`,
		},
		{
			name: "a registry whose login is gone from the store", address: other,
			prepare: func(w *world) { w.login(registry, other); w.must(os.Remove(w.loginFile())) },
			outcome: NotLoggedIn, text: `127.0.0.1:5000: not logged in; run "docker-credential-dtz login --insecure-storage --registry 127.0.0.1:5000"`,
		},
		{
			name: "a registry of a profile whose login is gone", address: other,
			prepare: func(w *world) {
				w.loginAs("night", w.passwordLogin("alice"), other)
				w.must(os.Remove(w.loginFile()))
			},
			outcome: NotLoggedIn,
			text:    `127.0.0.1:5000: not logged in; run "docker-credential-dtz login --insecure-storage --registry 127.0.0.1:5000 --profile night"`,
		},
		{
			name: "a registry of a profile that docker login made", address: other,
			prepare: func(w *world) {
				w.loginAs("127.0.0.1:5000", w.passwordLogin("alice"), other)
				w.must(os.Remove(w.loginFile()))
			},
			outcome: NotLoggedIn, text: `127.0.0.1:5000: not logged in; run "docker-credential-dtz login --insecure-storage --registry 127.0.0.1:5000"`,
		},
		{
			name: "a login that cannot be read", address: registry,
			prepare: func(w *world) { w.login(registry); w.must(os.WriteFile(w.loginFile(), []byte("canary"), 0o600)) },
			outcome: NotLoggedIn,
			text:    `cr.dtz.rocks: the login in LOGIN cannot be read: not a record of this program; run "docker-credential-dtz login --insecure-storage"`,
		},
		{
			name: "a login that has ended", address: other,
			prepare: func(w *world) { w.login(registry, other); w.advance(26 * time.Hour) },
			outcome: Expired, text: `127.0.0.1:5000: login expired 2 hours ago; run "docker-credential-dtz login --insecure-storage --registry 127.0.0.1:5000"`,
		},
		{
			name: "a kept key that was deleted", address: registry,
			prepare: func(w *world) { w.must(w.service.DeleteKey(w.loginKeep(registry).Reveal())); w.advance(26 * time.Hour) },
			outcome: Refused,
			text:    `cr.dtz.rocks: the API key of this login was refused by the identity service: unknown API key; run "docker-credential-dtz login --keep --insecure-storage"`,
		},
		{
			name: "a context that is not the user's", address: registry,
			prepare: func(w *world) {
				w.login(registry)
				w.bind(registry, func(b *config.Binding) { b.Context = bobs })
			},
			outcome: Refused,
			text:    `cr.dtz.rocks: login refused in context context-bob00001 by the identity service: this identity may not use that context; run "docker-credential-dtz context list"`,
		},
		{
			name: "an identity service that is away", address: registry,
			prepare: func(w *world) { w.loginKeep(registry); w.advance(26 * time.Hour); w.breakWith(away) },
			outcome: Unreachable,
			text:    `cr.dtz.rocks: identity service out of reach: dial tcp 127.0.0.1:1: connect: connection refused; run "docker-credential-dtz doctor"`,
		},
		{
			name: "an identity service that answers nonsense", address: registry,
			prepare: func(w *world) {
				w.loginKeep(registry)
				w.advance(26 * time.Hour)
				w.breakWith(fault{answer: func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte("<html>canary")) }})
			},
			outcome: Unreachable,
			text:    `cr.dtz.rocks: exchanging the API key: the answer is not a token response; run "docker-credential-dtz doctor"`,
		},
		{
			name: "a login file that others can read", address: registry,
			prepare: func(w *world) { w.login(registry); w.must(os.Chmod(w.loginFile(), 0o644)) },
			outcome: StoreAway,
			text:    `cr.dtz.rocks: file out of reach: LOGIN is open to others (mode 0644); if nobody has used that, run: chmod 600 LOGIN; run "docker-credential-dtz status"`,
		},
		{
			name: "a config.json that is no JSON", address: registry,
			prepare: func(w *world) { w.login(registry); w.write("config/config.json", "{", 0o600) },
			outcome: Misconfigured,
			text:    "cr.dtz.rocks: reading bindings: DIR/config/config.json: unexpected end of JSON input; mend that file, or move it away",
		},
		{
			name: "a config.json of a newer program", address: registry,
			prepare: func(w *world) { w.write("config/config.json", `{"version":2}`, 0o600) },
			outcome: Misconfigured,
			text:    "cr.dtz.rocks: reading bindings: DIR/config/config.json: has version 2 and not 1: another version of this program wrote it; mend that file, or move it away",
		},
		{
			name: "a store that there is not", address: registry,
			prepare: func(w *world) {
				w.login(registry)
				w.must(config.Update(w.ctx(), w.path("config", "config.json"), func(c *config.Config) error {
					c.Logins[0].Store = "cloud"
					return nil
				}))
			},
			outcome: Misconfigured, text: `cr.dtz.rocks: no store is called "cloud"; mend DIR/config/config.json`,
		},
		{
			name: "an identity service over plain http", address: registry,
			prepare: func(w *world) {
				w.write("config/config.json", `{"version":1,
					"logins":[{"identity":"http://identity.example","profile":"default","store":"file"}],
					"bindings":{"cr.dtz.rocks":{"identity":"http://identity.example","profile":"default"}}}`, 0o600)
			},
			outcome: Misconfigured,
			text:    "cr.dtz.rocks: http:// is for a literal loopback address only, such as 127.0.0.1; use https://; mend DIR/config/config.json",
		},
		{
			name: "bindings that are a mess, and an address that may be in them", address: "registry.example",
			prepare: func(w *world) { w.write("config/config.json", "{", 0o600) },
			outcome: Misconfigured,
			text:    "registry.example: reading bindings: DIR/config/config.json: unexpected end of JSON input; mend that file, or move it away",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			if tt.prepare != nil {
				tt.prepare(w)
			}
			text := strings.ReplaceAll(tt.text, "DIR", w.dir)
			if strings.Contains(text, "LOGIN") {
				text = strings.ReplaceAll(text, "LOGIN", w.loginFile())
			}
			_, err := w.get(tt.address, tt.env...)
			wantError(t, err, tt.outcome, text)
		})
	}
}

// Addresses that are not ours: no network, no store, not a word.
func TestOtherAddressesTouchNothing(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(w *world){
		"on a new machine":                     func(*world) {},
		"with an environment that is a mess":   func(w *world) { w.env["DTZ_API_KEY"], w.env["DTZ_API_KEY_FILE"] = "x", "y" },
		"with a registry list that is a mess":  func(w *world) { w.env["DTZ_REGISTRIES"] = "ftp://x,,  ,ghcr.io@y" },
		"with another address in the list":     func(w *world) { w.env["DTZ_REGISTRIES"] = "ghcr.io:444" },
		"with an identity service that is bad": func(w *world) { w.env["DTZ_IDENTITY_URL"] = "http://evil.example" },
	} {
		w := newWorld(t)
		prepare(w)
		s := w.process()
		s.Store = func(string) (store.Store, error) {
			t.Errorf("%s: the store was opened", name)
			return nil, fs.ErrInvalid
		}
		s.CacheDir = func() string { t.Errorf("%s: the cache was opened", name); return "" }
		_, err := s.Credential(w.ctx(), Request{Address: "ghcr.io"})
		var e *Error
		if !errors.As(err, &e) || e.Outcome != NotOurs {
			t.Errorf("%s: error = %v, want NotOurs", name, err)
		}
		if n := w.requests(); n != 0 {
			t.Errorf("%s: %d requests to the identity service", name, n)
		}
	}
}

func TestKeychainOutOfReachNamesTheChoices(t *testing.T) { // not parallel: it sets variables
	if runtime.GOOS != "linux" {
		t.Skip("takes the session bus away")
	}
	w := newWorld(t)
	place := w.place("")
	place.Store = store.KeychainName
	w.signIn(place, w.passwordLogin("alice"), registry)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:abstract=docker-credential-dtz-no-such-bus")
	s := w.process()
	s.Store = func(string) (store.Store, error) { return &store.Keychain{Dir: w.path("state")}, nil }
	_, err := s.Credential(w.ctx(), Request{Address: registry})
	wantError(t, err, StoreAway, `cr.dtz.rocks: keychain out of reach: DBUS_SESSION_BUS_ADDRESS names a session bus that is gone; `+
		`there is nothing to unlock: set DTZ_API_KEY, or run "docker-credential-dtz login --insecure-storage"`)
}

func TestWithoutHomeOnlyTheEnvironmentServes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	homeless := func(env ...string) *Session {
		s := w.process(env...)
		s.ConfigPath, s.StateDir = "", ""
		return s
	}
	_, err := homeless().Credential(w.ctx(), Request{Address: registry})
	wantError(t, err, NotLoggedIn, `cr.dtz.rocks: not logged in; set HOME, or DTZ_API_KEY for a pipeline`)
	cred, err := homeless("DTZ_API_KEY="+w.apiKey(alice).Reveal()).Credential(w.ctx(), Request{Address: registry})
	if err != nil {
		t.Fatal(err)
	}
	w.checkToken(cred, work)
	_, err = homeless().Login(w.ctx(), w.place(""), "")
	wantError(t, err, Misconfigured, "neither HOME nor the XDG folders are set; set HOME, or DTZ_API_KEY for a pipeline")
}

// What the identity service says, and what another process noted, comes from
// strangers: one line, no secret, nothing that a terminal obeys.
func TestStrangersWordsAreCleaned(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.loginKeep(registry)
	token := w.current(nil)
	w.advance(23*time.Hour + 55*time.Minute)
	check := func(text string) {
		t.Helper()
		if strings.ContainsAny(text, "\n\r\x1b\u202e") {
			t.Errorf("unclean: %q", text)
		}
		if strings.Contains(text, key.Reveal()) || strings.Contains(text, token.Reveal()) {
			t.Errorf("quotes a secret: %q", text)
		}
	}
	w.breakWith(answers(http.StatusUnauthorized, "\x1b[2Jkey "+key.Reveal()+"\nis \u202ewrong"))
	check(strings.Join(w.mustGet(registry, work).Notes, "|"))
	w.advance(time.Hour)
	_, err := w.get(registry)
	check(err.Error())

	note, err := json.Marshal(store.Failure{At: w.Now(), Kind: "no such kind", Why: "\x1b[2Jboo\nhoo"})
	w.must(err)
	notes, err := filepath.Glob(w.path("state", "locks", "*.failure"))
	if err != nil || len(notes) != 1 {
		t.Fatalf("notes of failures: %q, %v", notes, err)
	}
	w.must(os.WriteFile(notes[0], note, 0o600))
	calls := w.exchanges()
	_, err = w.get(registry)
	check(err.Error())
	wantError(t, err, Unreachable, `cr.dtz.rocks: boo hoo; run "docker-credential-dtz doctor"`)
	if w.exchanges() != calls {
		t.Error("the note of a moment ago was not used")
	}
}
