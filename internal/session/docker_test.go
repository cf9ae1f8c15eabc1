package session

import (
	"encoding/base64"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// keep is docker login, in a process of its own.
func (w *world) keep(address config.Address, username string, given secret.String, env ...string) error {
	_, err := w.process(env...).Keep(w.ctx(), address, username, given, store.FileName)
	return err
}

// adopted is where docker login's login for an address lies.
func (w *world) adopted(address config.Address) config.Login { return w.place(string(address)) }

// snapshot is everything that is kept of logins and bindings.
func (w *world) snapshot() string {
	w.t.Helper()
	var all strings.Builder
	for _, dir := range []string{store.FileName, "config"} {
		entries, err := os.ReadDir(w.path(dir))
		if err != nil && !os.IsNotExist(err) {
			w.t.Fatal(err)
		}
		for _, entry := range entries {
			data, err := os.ReadFile(w.path(dir, entry.Name()))
			w.must(err)
			all.WriteString(entry.Name() + string(data))
		}
	}
	return all.String()
}

// What get has just handed out comes back with docker login, also when the
// registry refused it, and never takes the place of a login that is renewed.
func TestEchoIsIgnored(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		prepare func(w *world) (address config.Address, given secret.String)
	}{
		{"the login's token", func(w *world) (config.Address, secret.String) {
			w.login(registry)
			return registry, w.mustGet(registry, work).Secret
		}},
		{"an older token of the same subject and scope", func(w *world) (config.Address, secret.String) {
			w.login(registry)
			old := w.mustGet(registry, work).Secret
			w.advance(20 * time.Hour)
			w.mustGet(registry, work)
			w.advance(10 * time.Hour) // the old one has ended
			return registry, old
		}},
		{"a token of the same subject and scope from elsewhere", func(w *world) (config.Address, secret.String) {
			w.login(registry)
			return registry, w.token(alice, work)
		}},
		{"the same, with its ids spelled otherwise", func(w *world) (config.Address, secret.String) {
			w.login(registry)
			return registry, secret.String(unsigned("alice001", "work0001", w.Now()))
		}},
		{"the token of a kept key that was deleted", func(w *world) (config.Address, secret.String) {
			key := w.loginKeep(registry)
			given := w.mustGet(registry, work).Secret
			w.must(w.service.DeleteKey(key.Reveal()))
			w.advance(30 * time.Hour)
			return registry, given
		}},
		{"the token of the binding's context", func(w *world) (config.Address, secret.String) {
			w.login(registry, other)
			w.bind(other, func(b *config.Binding) { b.Context = home })
			return other, w.mustGet(other, home).Secret
		}},
		{"the token of another port of the platform's registry", func(w *world) (config.Address, secret.String) {
			w.login(registry)
			return "cr.dtz.rocks:3214", w.mustGet("cr.dtz.rocks:3214", work).Secret
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			address, given := tt.prepare(w)
			before, calls := w.snapshot(), w.requests()
			// The registry refused it, or the identity service is away, or nothing can be saved.
			w.breakWith(answers(http.StatusUnauthorized, "no"))
			w.full = true
			w.must(w.keep(address, UserBearer, given))
			if w.snapshot() != before || w.requests() != calls {
				t.Errorf("something was changed, or the service was asked")
			}
			_, err := w.process().Keep(w.ctx(), address, UserBearer, given, "") // DTZ_STORE=file without opt-in
			w.must(err)
		})
	}
}

func TestEchoOfTheEnvironmentIsIgnored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.apiKey(bob)
	path := w.write("key", key.Reveal()+"\n", 0o600)
	token := w.token(bob, bobs)
	for _, tt := range []struct {
		name  string
		env   []string
		user  string
		given secret.String
	}{
		{"the token of a key", []string{"DTZ_API_KEY=" + key.Reveal()}, UserBearer, token},
		{"the token of a short key", []string{"DTZ_API_KEY=" + shortKey}, UserBearer, w.token(alice, work)},
		{"the token of a key's file", []string{"DTZ_API_KEY_FILE=" + path}, UserBearer, token},
		{"the token itself", []string{"DTZ_ACCESS_TOKEN=" + token.Reveal()}, UserBearer, token},
		{"the key itself", []string{"DTZ_API_KEY=" + key.Reveal()}, UserAPIKey, key},
		{"the key of a file", []string{"DTZ_API_KEY_FILE=" + path}, UserAPIKey, key},
	} {
		w.must(w.keep(registry, tt.user, tt.given, tt.env...))
		if s := w.snapshot(); s != "" {
			t.Errorf("%s: something was stored", tt.name)
		}
	}
	w.breakWith(away)
	w.must(w.keep(registry, UserAPIKey, key, "DTZ_API_KEY="+key.Reveal()))
	w.bind(registry, func(b *config.Binding) { b.Identity, b.APIKeyFile = w.url, path })
	before := w.snapshot()
	w.must(w.keep(registry, UserAPIKey, key))
	if w.snapshot() != before {
		t.Error("a configured file's key was stored")
	}
}

// The echo of a login that cannot be read cannot be told from another token:
// nothing may take the login's place.
func TestTokenIsNotKeptWhileTheLoginIsOutOfReach(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.loginKeep(registry)
	given := w.mustGet(registry, work).Secret
	file := w.loginFile()
	w.must(os.Chmod(file, 0o644))
	before := w.snapshot()
	if err := w.keep(registry, UserBearer, given); outcomeOf(err) != StoreAway {
		t.Errorf("error = %v, want StoreAway", err)
	}
	if w.snapshot() != before {
		t.Error("something was changed")
	}
}

func TestAnotherTokenBecomesTheLoginOfItsAddress(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		subject   string
		contextID string
	}{
		{"of another identity", bob, bobs},
		{"of the same identity in another context", alice, home},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.login(registry, other)
			mine := w.stored(w.place(""))
			given := w.token(tt.subject, tt.contextID)
			before := w.exchanges()
			w.must(w.keep(other, UserBearer, given))
			if got := w.exchanges() - before; got != 1 {
				t.Errorf("%d exchanges to prove it, want 1", got)
			}
			if sent := w.lastSent(); !strings.Contains(sent, `"contextId":"`+tt.contextID+`"`) {
				t.Errorf("sent %s, want the token's context in it", sent)
			}
			login := w.stored(w.adopted(other))
			if login == nil || login.Method != store.Adopted || login.Subject != tt.subject || login.Context != tt.contextID {
				t.Fatalf("the login is %+v", login)
			}
			if login.Newest().Access == given {
				t.Error("the token itself was kept, not what it was exchanged for")
			}
			w.mustGet(other, tt.contextID)
			w.mustGet(registry, work)
			if got := w.stored(w.place("")); got.Newest() != mine.Newest() {
				t.Error("the other login was changed")
			}
			for range 6 { // it is renewed as any other
				w.advance(20 * time.Hour)
				w.mustGet(other, tt.contextID)
			}
		})
	}
}

func TestWhatDockerLoginRefuses(t *testing.T) {
	t.Parallel()
	canary := unsigned(bob, bobs, monday.Add(time.Hour))
	for _, tt := range []struct {
		name     string
		fault    fault
		username string
		given    string
		want     Outcome
		text     string
	}{
		{
			"a person's password", works, "alice", password, Misconfigured,
			`127.0.0.1:5000: the registry takes no password of a person, only the users bearer and apikey; run "docker-credential-dtz login --registry 127.0.0.1:5000"`,
		},
		{
			"a user in capitals", works, "Bearer", canary, Misconfigured,
			`127.0.0.1:5000: the registry takes no password of a person, only the users bearer and apikey; run "docker-credential-dtz login --registry 127.0.0.1:5000"`,
		},
		{
			"no token", works, UserBearer, password, Refused,
			`127.0.0.1:5000: the password cannot be used: not a token: want three base64url parts of at most 48 KiB in all; run "docker-credential-dtz login --registry 127.0.0.1:5000"`,
		},
		{
			"a forged token", works, UserBearer, canary, Refused,
			"127.0.0.1:5000: the token was refused by the identity service: token not valid; nothing was stored",
		},
		{
			"a token, with the service away", away, UserBearer, canary, Unreachable,
			`127.0.0.1:5000: identity service out of reach: dial tcp 127.0.0.1:1: connect: connection refused; nothing was stored; try again`,
		},
		{
			"an unknown key", works, UserAPIKey, "apikey-0123456789abcdef01234567", Refused,
			"127.0.0.1:5000: the API key was refused by the identity service: unknown API key; nothing was stored",
		},
		{
			"a key, with the service away", away, UserAPIKey, "apikey-0123456789abcdef01234567", Unreachable,
			`127.0.0.1:5000: identity service out of reach: dial tcp 127.0.0.1:1: connect: connection refused; nothing was stored; try again`,
		},
		{"an empty key", works, UserAPIKey, "", Misconfigured, "127.0.0.1:5000: the password is empty"},
		{"a key of two words", works, UserAPIKey, "apikey-a b", Misconfigured, "127.0.0.1:5000: the password holds more than an API key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.login(registry)
			before := w.snapshot()
			w.breakWith(tt.fault)
			err := w.keep(other, tt.username, secret.String(tt.given))
			wantError(t, err, tt.want, tt.text)
			if tt.given != "" && strings.Contains(err.Error(), tt.given) {
				t.Error("the error quotes what was given")
			}
			if w.snapshot() != before {
				t.Error("something was stored")
			}
		})
	}
}

func TestDockerLoginNamesTheIdentityServiceThatIsWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	err := w.keep(other, UserBearer, w.token(bob, bobs), "DTZ_IDENTITY_URL=http://identity.example")
	wantError(t, err, Misconfigured, "127.0.0.1:5000: DTZ_IDENTITY_URL: http:// is for a literal loopback address only, such as 127.0.0.1; use https://")
}

// DTZ_IDENTITY_URL does not redirect an address that is bound.
func TestDockerLoginStaysAtTheAddressesIdentityService(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		prepare func(w *world)
	}{
		{"with a login", func(w *world) { w.login(other) }},
		{"with a binding alone", func(w *world) {
			w.bind(other, func(b *config.Binding) { b.Identity, b.Profile = w.url, config.DefaultProfile })
		}},
	} {
		for user, given := range map[string]func(w *world) secret.String{
			UserBearer: func(w *world) secret.String { return w.token(bob, bobs) },
			UserAPIKey: func(w *world) secret.String { return w.apiKey(bob) },
		} {
			w := newWorld(t)
			tt.prepare(w)
			if err := w.keep(other, user, given(w), "DTZ_IDENTITY_URL=http://127.0.0.1:1"); err != nil {
				t.Errorf("%s, %s: %v", tt.name, user, err)
				continue
			}
			w.mustGet(other, bobs)
		}
	}
}

// The platform's registry is bound to the platform out of the box: until it has
// a login, the variable chooses; from then on the login stays where it is.
func TestIdentityServiceOfThePlatformsRegistry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	builtin := config.Login{Identity: platform.IdentityURL, Profile: config.DefaultProfile, Store: store.FileName}
	for _, loggedIn := range []bool{false, true} {
		if loggedIn {
			w.must(config.Update(w.ctx(), w.path("config", "config.json"), func(c *config.Config) error {
				c.SetPlace(builtin)
				return nil
			}))
		}
		k := keeping{s: w.process(), conf: w.config(), address: registry}
		place, err := k.place()
		if want := map[bool]string{false: w.url, true: platform.IdentityURL}[loggedIn]; err != nil || place.Identity != want {
			t.Errorf("with a login %v: at %s, %v, want %s", loggedIn, place.Identity, err, want)
		}
	}
}

func TestDockerLoginWithAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.apiKey(alice)
	w.must(w.keep(registry, UserAPIKey, key))
	login := w.stored(w.adopted(registry))
	if login == nil || login.Method != store.APIKey || login.Key != key {
		t.Fatalf("the login is %+v", login)
	}
	for range 3 {
		w.advance(72 * time.Hour)
		w.mustGet(registry, work)
	}
	// Docker brings the token of it back.
	before := w.snapshot()
	w.must(w.keep(registry, UserBearer, w.mustGet(registry, work).Secret))
	if w.snapshot() != before {
		t.Error("its own token took the key's place")
	}
	// docker logout deletes what the helper made, not what the user brought.
	_, err := w.process().Erase(w.ctx(), registry)
	w.must(err)
	if !w.keyWorks(key) || w.stored(w.adopted(registry)) != nil {
		t.Error("the user's key was deleted, or the login is still there")
	}
}

func TestKeyForAnAddressWithAContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry, other)
	w.bind(other, func(b *config.Binding) { b.Context = home })
	w.must(w.keep(other, UserAPIKey, w.apiKey(alice)))
	w.mustGet(other, home)
	w.mustGet(registry, work)
}

// The login has ended, and the same person brings a new token: it is the same
// login again, for all its addresses and in its own context.
func TestNewTokenRevivesALoginThatEnded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		address   config.Address
		contextID string // of the new token
		revived   bool
	}{
		{"in its own context", registry, work, true},
		{"in the context of another of its addresses", other, home, true},
		{"in a context that it does not use there", registry, home, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.login(registry, other)
			w.bind(other, func(b *config.Binding) { b.Context = home })
			w.advance(48 * time.Hour)
			w.must(w.keep(tt.address, UserBearer, w.token(alice, tt.contextID)))
			w.mustGet(tt.address, tt.contextID)
			login := w.stored(w.place(""))
			if login.User != "alice" || login.Context != work {
				t.Errorf("the login is of %q in %s now", login.User, login.Context)
			}
			if !tt.revived {
				return
			}
			w.mustGet(registry, work)
			w.mustGet(other, home)
			if n := len(w.config().Logins); n != 1 {
				t.Errorf("%d logins, want the one", n)
			}
		})
	}
}

func TestDockerLoginThatCannotBeSaved(t *testing.T) {
	t.Parallel()
	for name, given := range map[string]func(w *world) (string, secret.String){
		"a token": func(w *world) (string, secret.String) { return UserBearer, w.token(bob, bobs) },
		"a key":   func(w *world) (string, secret.String) { return UserAPIKey, w.apiKey(bob) },
	} {
		w := newWorld(t)
		w.login(registry)
		before := w.snapshot()
		user, secret := given(w)
		w.full = true
		if err := w.keep(registry, user, secret); outcomeOf(err) != StoreAway {
			t.Errorf("%s on a full disk: %v, want StoreAway", name, err)
		}
		_, err := w.process().Keep(w.ctx(), registry, user, secret, "")
		wantError(t, err, Misconfigured, "cr.dtz.rocks: DTZ_STORE=file keeps logins unencrypted, which only a person may choose; "+
			`run "docker-credential-dtz login --insecure-storage"`)
		if w.snapshot() != before {
			t.Errorf("%s: the login that was there is changed", name)
		}
		w.mustGet(registry, work)
	}
}

// With a global credsStore, tokens of every registry come by. They must not be
// shown to the identity service.
func TestTokenOfAnotherIssuerIsNotSentAnywhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	part := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	foreign := part(`{"alg":"RS256"}`) + "." + part(`{"iss":"https://other.example","sub":"identity-abc12345","scope":"context-abc12345"}`) + "." + part("signature")
	_, err := w.process().Keep(w.ctx(), registry, UserBearer, secret.String(foreign), store.FileName)
	wantError(t, err, Refused, `cr.dtz.rocks: the password is a token of the issuer "https://other.example" and not of dtz.rocks; run "docker-credential-dtz login"`)
	if n := w.requests(); n != 0 {
		t.Errorf("%d requests to the identity service", n)
	}
}
