package session

import (
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

func TestFirstSourceThatHasACredentialDecides(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry)
	key := w.apiKey(alice).Reveal()
	keyFile := w.write("key", key+"\n", 0o600)
	boundFile := w.write("bound-key", w.apiKey(alice).Reveal(), 0o600)
	token := w.token(alice, work).Reveal()
	for _, tt := range []struct {
		name  string
		env   []string
		bound bool // the binding names a file with an API key
		want  Source
		notes []string
	}{
		{name: "nothing but the login", want: FromLogin},
		{name: "a key", env: []string{"DTZ_API_KEY=" + key}, want: FromAPIKey},
		{name: "a key with white space around it", env: []string{"DTZ_API_KEY= " + key + "\r\n"}, want: FromAPIKey},
		{name: "a key's file", env: []string{"DTZ_API_KEY_FILE=" + keyFile}, want: FromAPIKeyFile},
		{name: "a token", env: []string{"DTZ_ACCESS_TOKEN=" + token}, want: FromAccessToken},
		{name: "a key and a token", env: []string{"DTZ_API_KEY=" + key, "DTZ_ACCESS_TOKEN=" + token}, want: FromAPIKey},
		{name: "a configured file", bound: true, want: FromBoundFile},
		{name: "a configured file and a key", bound: true, env: []string{"DTZ_API_KEY=" + key}, want: FromAPIKey},
		{name: "a configured file and a token", bound: true, env: []string{"DTZ_ACCESS_TOKEN=" + token}, want: FromBoundFile},
		{name: "an empty key", env: []string{"DTZ_API_KEY="}, want: FromLogin},
		{name: "an empty key and a configured file", bound: true, env: []string{"DTZ_API_KEY="}, want: FromBoundFile},
		{name: "an empty key and a key's file", env: []string{"DTZ_API_KEY=", "DTZ_API_KEY_FILE=" + keyFile}, want: FromAPIKeyFile},
		{
			name: "a token that has ended", env: []string{"DTZ_ACCESS_TOKEN=" + unsigned(alice, work, monday.Add(-2*time.Hour))},
			want: FromLogin, notes: []string{"DTZ_ACCESS_TOKEN expired 2 hours ago"},
		},
		{
			name: "a token that ends now", env: []string{"DTZ_ACCESS_TOKEN=" + unsigned(alice, work, monday)},
			want: FromLogin, notes: []string{"DTZ_ACCESS_TOKEN expired 0 seconds ago"},
		},
		{
			name: "a token without an end", env: []string{"DTZ_ACCESS_TOKEN=" + unsigned(alice, work, time.Time{})},
			want: FromLogin, notes: []string{"DTZ_ACCESS_TOKEN does not say when it expires"},
		},
		{
			name: "garbage for a token", env: []string{"DTZ_ACCESS_TOKEN=canary.canary"},
			want: FromLogin, notes: []string{"DTZ_ACCESS_TOKEN cannot be used: not a token: want three base64url parts of at most 48 KiB in all"},
		},
		{
			name: "a token of another context than is wanted", env: []string{"DTZ_ACCESS_TOKEN=" + token, "DTZ_CONTEXT_ID=" + home},
			want: FromLogin, notes: []string{"DTZ_ACCESS_TOKEN is for " + work + " and not for " + home},
		},
		{
			name: "a token of the wanted context, spelled otherwise", env: []string{"DTZ_ACCESS_TOKEN=" + token, "DTZ_CONTEXT_ID=work0001"},
			want: FromAccessToken,
		},
		{
			name: "a registry list with mistakes", env: []string{"DTZ_REGISTRIES=ftp://x, cr.dtz.rocks:0 ,,127.0.0.1:5000"},
			want: FromLogin, notes: []string{`DTZ_REGISTRIES holds "ftp://x": not a registry address`, `DTZ_REGISTRIES holds "cr.dtz.rocks:0"`},
		},
	} {
		w.bind(registry, func(b *config.Binding) { b.APIKeyFile = "" })
		if tt.bound {
			w.bind(registry, func(b *config.Binding) { b.APIKeyFile = boundFile })
		}
		t.Run(tt.name, func(t *testing.T) {
			cred, err := w.get(registry, tt.env...)
			if err != nil {
				t.Fatal(err)
			}
			if cred.Source != tt.want || cred.Username != UserBearer {
				t.Errorf("from %s as %s, want from %s", cred.Source, cred.Username, tt.want)
			}
			wantNotes(t, cred, tt.notes...)
		})
	}
}

// unsigned is a token's shape with the claims in it; an end that is zero is
// left out.
func unsigned(subject, contextID string, expires time.Time) string {
	claims := map[string]any{"iss": "dtz.rocks", "sub": subject, "scope": contextID}
	if !expires.IsZero() {
		claims["exp"] = expires.Unix()
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"none"}`)) + "." + part(payload) + "." + part([]byte("signature"))
}

func TestEnvironmentMistakes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.apiKey(alice).Reveal()
	long := w.write("long", strings.Repeat("k", 5000), 0o600)
	for _, tt := range []struct {
		name string
		env  []string
		want Outcome
		text string
	}{
		{
			"a key and a file",
			[]string{"DTZ_API_KEY=" + key, "DTZ_API_KEY_FILE=" + w.path("key")},
			Misconfigured, "cr.dtz.rocks: DTZ_API_KEY and DTZ_API_KEY_FILE are both set; unset or mend it",
		},
		{
			"a key that is two lines",
			[]string{"DTZ_API_KEY=" + key + "\n" + key},
			Misconfigured, "cr.dtz.rocks: DTZ_API_KEY holds more than an API key; unset or mend it",
		},
		{
			"a file that is missing",
			[]string{"DTZ_API_KEY_FILE=/nowhere/key"},
			Misconfigured, "cr.dtz.rocks: DTZ_API_KEY_FILE: open /nowhere/key: no such file or directory; unset or mend it",
		},
		{
			"a folder for a file",
			[]string{"DTZ_API_KEY_FILE=" + w.dir},
			Misconfigured, "cr.dtz.rocks: DTZ_API_KEY_FILE: read " + w.dir + ": is a directory; unset or mend it",
		},
		{
			"a file that is empty",
			[]string{"DTZ_API_KEY_FILE=" + w.write("empty", " \n", 0o600)},
			Misconfigured, "cr.dtz.rocks: " + w.path("empty") + " is empty; unset or mend it",
		},
		{
			"a file that is large",
			[]string{"DTZ_API_KEY_FILE=" + long},
			Misconfigured, "cr.dtz.rocks: DTZ_API_KEY_FILE: " + long + " is too large for an API key; unset or mend it",
		},
		{
			"a device that never ends for a file",
			[]string{"DTZ_API_KEY_FILE=/dev/zero"},
			Misconfigured, "cr.dtz.rocks: DTZ_API_KEY_FILE: /dev/zero is too large for an API key; unset or mend it",
		},
		{
			"a key where its file's name belongs",
			[]string{"DTZ_API_KEY_FILE=" + key},
			Misconfigured, "cr.dtz.rocks: DTZ_API_KEY_FILE holds an API key and not the name of a file; unset or mend it",
		},
		{
			"an identity service over plain http",
			[]string{"DTZ_IDENTITY_URL=http://identity.example", "DTZ_API_KEY=" + key},
			Misconfigured, "cr.dtz.rocks: DTZ_IDENTITY_URL: http:// is for a literal loopback address only, such as 127.0.0.1; use https://; unset or mend it",
		},
		{
			"an empty key and no login",
			[]string{"DTZ_API_KEY="},
			NotLoggedIn, `cr.dtz.rocks: not logged in (DTZ_API_KEY set but empty); run "docker-credential-dtz login"`,
		},
		{
			"everything empty and no login",
			[]string{"DTZ_API_KEY=  ", "DTZ_API_KEY_FILE=", "DTZ_ACCESS_TOKEN="},
			NotLoggedIn, `cr.dtz.rocks: not logged in (DTZ_API_KEY and DTZ_API_KEY_FILE and DTZ_ACCESS_TOKEN set but empty); run "docker-credential-dtz login"`,
		},
		{
			"a token that has ended and no login",
			[]string{"DTZ_ACCESS_TOKEN=" + unsigned(alice, work, monday.Add(-time.Hour))},
			NotLoggedIn, `cr.dtz.rocks: not logged in (DTZ_ACCESS_TOKEN expired 60 minutes ago); run "docker-credential-dtz login"`,
		},
		{
			"a key that the service does not know",
			[]string{"DTZ_API_KEY=apikey-0123456789abcdef01234567"},
			Refused, "cr.dtz.rocks: the API key of DTZ_API_KEY was refused by the identity service: unknown API key; replace the key, or unset DTZ_API_KEY",
		},
		{
			"a key for a context that is not its own",
			[]string{"DTZ_API_KEY=" + key, "DTZ_CONTEXT_ID=" + bobs},
			Refused, "cr.dtz.rocks: the API key of DTZ_API_KEY was refused by the identity service: this API key may not use that context; replace the key, or unset DTZ_API_KEY",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := w.get(registry, tt.env...)
			wantError(t, err, tt.want, tt.text)
			if err != nil && (strings.Contains(err.Error(), key) || strings.Contains(err.Error(), "0123456789abcdef")) {
				t.Errorf("the error quotes the key: %v", err)
			}
		})
	}
}

// What is set and empty is said whenever nothing else serves.
func TestEmptyKeyIsSaidOfALoginThatEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry)
	wantNotes(t, w.mustGet(registry, work, "DTZ_API_KEY="))
	w.advance(26 * time.Hour)
	_, err := w.get(registry, "DTZ_API_KEY=", "DTZ_ACCESS_TOKEN=garbage")
	wantError(t, err, Expired, "cr.dtz.rocks: login expired 2 hours ago (DTZ_API_KEY set but empty) (DTZ_ACCESS_TOKEN cannot be used: "+
		"not a token: want three base64url parts of at most 48 KiB in all); "+
		`run "docker-credential-dtz login --insecure-storage"`)
}

func TestRefusedConfiguredFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := w.write("key", "apikey-0123456789abcdef01234567", 0o600)
	w.bind(registry, func(b *config.Binding) { b.Identity, b.APIKeyFile = w.url, path })
	_, err := w.get(registry)
	wantError(t, err, Refused, "cr.dtz.rocks: the API key of "+path+" was refused by the identity service: unknown API key; replace the key in that file")
	w.must(os.Remove(path))
	_, err = w.get(registry)
	wantError(t, err, Misconfigured, "cr.dtz.rocks: configured API-key file: open "+path+": no such file or directory; unset or mend it")
}

func TestTokenOfAKeyServesManyProcesses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.apiKey(alice)
	variable, file := "DTZ_API_KEY="+key.Reveal(), "DTZ_API_KEY_FILE="+w.write("key", key.Reveal()+"\n", 0o600)
	first := w.mustGet(registry, work, variable).Secret
	for _, env := range []string{variable, file, variable} {
		w.advance(15 * time.Minute)
		if w.mustGet(registry, work, env).Secret != first {
			t.Errorf("%.16s…: another token than the one that is kept", env)
		}
	}
	if got := w.exchanges(); got != 1 {
		t.Errorf("%d exchanges for one key within an hour, want 1", got)
	}
	w.advance(15 * time.Minute)
	if w.mustGet(registry, work, variable).Secret == first {
		t.Error("a token of an hour was not renewed")
	}
	w.checkHidden(w.path("cache"), key, first)

	// Another key, another context, another identity service: nothing is shared.
	before := w.exchanges()
	w.mustGet(registry, home, variable, "DTZ_CONTEXT_ID="+home)
	if sent := w.lastSent(); !strings.Contains(sent, `"contextId":"`+home+`"`) {
		t.Errorf("sent %s, want the context in it", strings.ReplaceAll(sent, key.Reveal(), "KEY"))
	}
	w.mustGet(registry, bobs, "DTZ_API_KEY="+w.apiKey(bob).Reveal())
	w.mustGet(registry, home, variable, "DTZ_CONTEXT_ID="+home)
	w.mustGet(registry, work, variable)
	if got := w.exchanges() - before; got != 2 {
		t.Errorf("%d exchanges for two new pairs of key and context, want 2", got)
	}
	_, err := w.get(registry, variable, "DTZ_IDENTITY_URL="+newWorld(t).url)
	if outcomeOf(err) != Refused {
		t.Errorf("another identity service's answer is %v, want its own refusal", err)
	}
}

// checkHidden checks that no file below dir shows a secret or is open to others.
func (w *world) checkHidden(dir string, secrets ...secret.String) {
	w.t.Helper()
	w.must(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			w.t.Errorf("%s has mode %v", path, info.Mode())
		}
		data, err := os.ReadFile(path)
		for _, s := range secrets {
			if strings.Contains(string(data)+path, s.Reveal()) {
				w.t.Errorf("%s shows a secret", path)
			}
		}
		return err
	}))
}

func TestTokensThatAreNotKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 2 {
		w.mustGet(registry, work, "DTZ_API_KEY="+shortKey)
	}
	if files, _ := filepath.Glob(w.path("cache", "*")); w.exchanges() != 2 || len(files) != 0 {
		t.Errorf("%d exchanges of a key that could be guessed, files %q; want 2 and none", w.exchanges(), files)
	}
	s := w.process("DTZ_API_KEY=" + w.apiKey(alice).Reveal())
	s.CacheDir = func() string { return "" }
	for range 2 {
		cred, err := s.Credential(w.ctx(), Request{Address: registry})
		if err != nil {
			t.Fatal(err)
		}
		w.checkToken(cred, work)
		wantNotes(t, cred)
	}
}

// The environment's credentials belong to the environment's identity service.
// An address that is bound to another one is served from the environment only
// if DTZ_REGISTRIES lists it, and its own login and file go on working,
// whatever mess the environment is in.
func TestEnvironmentStaysWithItsIdentityService(t *testing.T) {
	t.Parallel()
	w, elsewhere := newWorld(t), newWorld(t)
	w.login(other)
	key := "DTZ_API_KEY=" + elsewhere.apiKey(alice).Reveal()
	token := "DTZ_ACCESS_TOKEN=" + elsewhere.token(bob, bobs).Reveal()
	identity := "DTZ_IDENTITY_URL=" + elsewhere.url
	for _, tt := range []struct {
		name string
		env  []string
		want Source
	}{
		{"a key", []string{identity, key}, FromLogin},
		{"a token", []string{identity, token}, FromLogin},
		{"two keys", []string{identity, key, "DTZ_API_KEY_FILE=/nowhere"}, FromLogin},
		{"a key's file that is missing", []string{identity, "DTZ_API_KEY_FILE=/nowhere"}, FromLogin},
		{"a key, and no identity service at that address", []string{"DTZ_IDENTITY_URL=nonsense", key}, FromLogin},
		{"a key, with the address listed", []string{identity, key, "DTZ_REGISTRIES=ghcr.io,HTTPS://127.0.0.1:5000/"}, FromAPIKey},
		{"a token, with the address listed", []string{identity, token, "DTZ_REGISTRIES=127.0.0.1:5000"}, FromAccessToken},
		{"a key, with another port listed", []string{identity, key, "DTZ_REGISTRIES=127.0.0.1:5001"}, FromLogin},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cred, err := w.get(other, tt.env...)
			if err != nil {
				t.Fatal(err)
			}
			if cred.Source != tt.want {
				t.Errorf("from %s, want from %s", cred.Source, tt.want)
			}
		})
	}
	w.bind(other, func(b *config.Binding) { b.APIKeyFile = w.write("key", w.apiKey(alice).Reveal(), 0o600) })
	if cred := w.mustGet(other, work, identity, key); cred.Source != FromBoundFile {
		t.Errorf("from %s, want from the configured file", cred.Source)
	}
	if n := elsewhere.requests(); n != 1 {
		t.Errorf("%d requests to the other identity service, want 1 for the address that is listed", n)
	}
}

// A credential of the environment needs no binding: a volume that gives its
// files to a group does not take a pipeline's key away.
func TestEnvironmentServesWithoutBindings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := w.write("config/config.json", "{", 0o600)
	key := "DTZ_API_KEY=" + w.apiKey(alice).Reveal()
	broken := "reading bindings: " + path + ": unexpected end of JSON input"
	const mend = "; mend that file, or move it away"
	for _, tt := range []struct {
		name    string
		address config.Address
		env     []string
		want    Source
		note    string
		fails   string
	}{
		{
			name: "a key", address: registry, env: []string{key}, want: FromAPIKey,
			note: broken + ": the variable DTZ_API_KEY serves without them" + mend,
		},
		{
			name: "a token, at a port of the platform's registry", address: registry + ":3214",
			env: []string{"DTZ_ACCESS_TOKEN=" + w.token(alice, work).Reveal()}, want: FromAccessToken,
			note: broken + ": the variable DTZ_ACCESS_TOKEN serves without them" + mend,
		},
		{
			name: "a key, with the address listed", address: other, env: []string{key, "DTZ_REGISTRIES=" + string(other)}, want: FromAPIKey,
			note: broken + ": the variable DTZ_API_KEY serves without them" + mend,
		},
		{
			name: "a key, at an address that is not listed", address: other, env: []string{key},
			fails: broken + mend,
		},
		{
			name: "a token that has ended", address: registry, env: []string{"DTZ_ACCESS_TOKEN=" + unsigned(alice, work, monday.Add(-2*time.Hour))},
			fails: broken + " (DTZ_ACCESS_TOKEN expired 2 hours ago)" + mend,
		},
		{
			name: "two keys", address: registry, env: []string{key, "DTZ_API_KEY_FILE=/nowhere"},
			fails: "DTZ_API_KEY and DTZ_API_KEY_FILE are both set (" + broken + "); unset or mend it",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.fails != "" {
				_, err := w.get(tt.address, tt.env...)
				wantError(t, err, Misconfigured, string(tt.address)+": "+tt.fails)
				return
			}
			cred := w.mustGet(tt.address, work, tt.env...)
			if cred.Source != tt.want {
				t.Errorf("from %s, want from %s", cred.Source, tt.want)
			}
			wantNotes(t, cred, tt.note)
		})
	}
}

// An answer does not change because another one was given.
func TestNotesAreEachAnswersOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry)
	s := w.process("DTZ_REGISTRIES=ftp://a,ftp://b,ftp://c", "DTZ_ACCESS_TOKEN="+unsigned(alice, work, monday.Add(time.Minute)), "DTZ_CONTEXT_ID="+home)
	ask := func(contextID string) *Credential {
		cred, err := s.Credential(w.ctx(), Request{Address: registry, Context: contextID})
		if err != nil {
			t.Fatal(err)
		}
		return cred
	}
	first := ask(home)
	before := slices.Clone(first.Notes)
	w.advance(time.Hour)
	ask("")
	if !slices.Equal(first.Notes, before) {
		t.Errorf("notes were %q and are %q now", before, first.Notes)
	}
}

func TestAccessTokenIsHandedOutAsItIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	token := w.token(bob, bobs)
	cred := w.mustGet(other, bobs, "DTZ_ACCESS_TOKEN= "+token.Reveal()+"\n", "DTZ_REGISTRIES=127.0.0.1:5000")
	if cred.Secret != token || w.requests() != 0 {
		t.Errorf("another token, or %d requests for one that was there", w.requests())
	}
	if _, err := oauth.ParseClaims(cred.Secret.Reveal()); err != nil {
		t.Error(err)
	}
}
