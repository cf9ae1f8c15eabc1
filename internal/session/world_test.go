package session

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

const (
	registry = platformRegistry
	other    = config.Address("127.0.0.1:5000")

	alice    = "identity-alice001"
	bob      = "identity-bob00001"
	work     = "context-work0001" // alice's default
	home     = "context-home0001"
	bobs     = "context-bob00001" // bob's only one
	password = "correct horse: battery"
	shortKey = "apikey-abc12345" // alice's
	alias    = "docker-credential-dtz on this machine"
)

var users = []identity.User{
	{Name: "alice", Password: password, Subject: alice, Contexts: []string{work, home}, Roles: []string{platform.RegistryRole}},
	{Name: "bob", Password: password, Subject: bob, Contexts: []string{bobs}},
}

var monday = time.Date(2026, time.November, 23, 9, 0, 0, 0, time.UTC)

func TestMain(m *testing.M) {
	// Most of these tests wait, for a retry or for another process, and need no
	// processor for that. The command line may say otherwise.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// world is a user's machine, an identity service and the network between them.
// One clock rules all, unless the machine's is ahead; it stands still until it
// is moved.
type world struct {
	t *testing.T
	*clock
	ahead time.Duration // how far the machine's clock is wrong
	*network
	service *identity.Service
	url     string            // of the identity service
	dir     string            // the machine's disk
	env     map[string]string // of every process
	full    bool              // the disk: nothing can be saved
}

func newWorld(t *testing.T) *world { return newWorldOf(t, 24*time.Hour) }

// newWorldOf is a world whose tokens live for lifetime.
func newWorldOf(t *testing.T, lifetime time.Duration) *world {
	t.Helper()
	clock := &clock{now: monday}
	service, err := identity.New(identity.Config{
		Users: users, Key: signingKey(), Now: clock.Now, Lifetime: lifetime,
		APIKeys: []identity.APIKey{{Hash: identity.HashAPIKey(shortKey), Subject: alice, Context: work}},
	})
	if err != nil {
		t.Fatal(err)
	}
	n := &network{service: service, calls: map[string]int{}}
	server := httptest.NewServer(n)
	t.Cleanup(server.Close)
	w := &world{t: t, clock: clock, network: n, service: service, url: server.URL + identity.BasePath, dir: t.TempDir(), env: map[string]string{}}
	// The environment's credentials are of this service too.
	w.env["DTZ_IDENTITY_URL"] = w.url
	return w
}

// signingKey is shared, because making one is slow.
var signingKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

func (c *clock) advance(d time.Duration) { c.set(c.Now().Add(d)) }

// process is a new process on the machine, with more environment in the form
// NAME=value.
func (w *world) process(env ...string) *Session {
	vars := maps.Clone(w.env)
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		vars[name] = value
	}
	return &Session{
		Env:        FromEnv(func(name string) (string, bool) { value, set := vars[name]; return value, set }),
		ConfigPath: w.path("config", "config.json"),
		StateDir:   w.path("state"),
		CacheDir:   func() string { return w.path("cache") },
		Identity:   w.client,
		Store: func(name string) (store.Store, error) {
			switch name {
			case store.FileName, store.KeychainName: // here another folder; the keychain has its own tests
				return disk{store.File{Dir: w.path(name)}, w}, nil
			}
			return nil, fmt.Errorf("no store is called %q", name)
		},
		Now: w.here,
	}
}

// here is the machine's clock.
func (w *world) here() time.Time { return w.Now().Add(w.ahead) }

func (w *world) path(elem ...string) string {
	return filepath.Join(append([]string{w.dir}, elem...)...)
}

func (w *world) client(baseURL string) (*oauth.Client, error) {
	baseURL, err := oauth.CheckBaseURL(baseURL)
	if err != nil {
		return nil, err
	}
	return &oauth.Client{BaseURL: baseURL, HTTP: w.http(), Now: w.here}, nil
}

// disk is the file store on a disk that can be full.
type disk struct {
	store.File
	w *world
}

func (d disk) Save(ctx context.Context, key store.Key, login *store.Login) error {
	if d.w.full {
		return &store.UnavailableError{Store: store.FileName, Why: "no space left on device"}
	}
	return d.File.Save(ctx, key, login)
}

// place is where the login of a profile lies, the default one for "".
func (w *world) place(profile string) config.Login {
	return config.Login{Identity: w.url, Profile: cmp.Or(profile, config.DefaultProfile), Store: store.FileName}
}

// login logs alice in by password, for the addresses.
func (w *world) login(addresses ...config.Address) {
	w.t.Helper()
	w.signIn(w.place(""), w.passwordLogin("alice"), addresses...)
}

// loginKeep is login --keep.
func (w *world) loginKeep(addresses ...config.Address) secret.String {
	w.t.Helper()
	login := w.keptLogin()
	w.signIn(w.place(""), login, addresses...)
	return login.Key
}

// loginAs keeps login under a profile.
func (w *world) loginAs(profile string, login *store.Login, addresses ...config.Address) {
	w.t.Helper()
	w.signIn(w.place(profile), login, addresses...)
}

func (w *world) signIn(place config.Login, login *store.Login, addresses ...config.Address) (notes []string) {
	w.t.Helper()
	notes, err := w.process().SignIn(w.ctx(), place, login, addresses)
	if err != nil {
		w.t.Fatal(err)
	}
	return notes
}

func (w *world) passwordLogin(user string) *store.Login {
	w.t.Helper()
	client, err := w.client(w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	got, err := client.Password(w.ctx(), user, password)
	if err != nil {
		w.t.Fatal(err)
	}
	return FromToken(store.Password, user, got)
}

func (w *world) keptLogin() *store.Login {
	w.t.Helper()
	client, err := w.client(w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	key := w.apiKey(alice)
	got, err := client.APIKey(w.ctx(), key, "")
	if err != nil {
		w.t.Fatal(err)
	}
	return FromKey(store.KeptKey, "alice", key, alias, got)
}

// apiKey is a new API key of the identity, in its default context.
func (w *world) apiKey(subject string) secret.String {
	w.t.Helper()
	key, err := w.service.CreateKey(subject, "", alias)
	if err != nil {
		w.t.Fatal(err)
	}
	return secret.String(key)
}

// keyWorks reports whether the identity service still takes the key.
func (w *world) keyWorks(key secret.String) bool {
	w.t.Helper()
	client, err := w.client(w.url)
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = client.APIKey(w.ctx(), key, "")
	return err == nil
}

// token is a token of the identity, not issued to this machine.
func (w *world) token(subject, contextID string) secret.String {
	w.t.Helper()
	token, err := w.service.Issue(subject, contextID)
	if err != nil {
		w.t.Fatal(err)
	}
	return secret.String(token)
}

// ctx ends late enough that no slow machine notices.
func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	w.t.Cleanup(cancel)
	return ctx
}

// get is what docker pull does, in a process of its own.
func (w *world) get(address config.Address, env ...string) (*Credential, error) {
	return w.process(env...).Credential(w.ctx(), Request{Address: address})
}

// mustGet is get with an answer that is good: a valid token for the context.
func (w *world) mustGet(address config.Address, contextID string, env ...string) *Credential {
	w.t.Helper()
	cred, err := w.get(address, env...)
	if err != nil {
		w.t.Fatalf("get %s at %s: %v", address, w.Now().Format(time.ANSIC), err)
	}
	w.checkToken(cred, contextID)
	return cred
}

func (w *world) checkToken(cred *Credential, contextID string) {
	w.t.Helper()
	claims, err := oauth.ParseClaims(cred.Secret.Reveal())
	switch {
	case err != nil || cred.Username != UserBearer:
		w.t.Errorf("answered %q and no token: %v", cred.Username, err)
	case !w.Now().Before(claims.Expires):
		w.t.Errorf("answered a token that ended at %s", claims.Expires)
	case !cred.Expires.Equal(claims.Expires): // one clock rules both
		w.t.Errorf("answered a token until %s and says %s", claims.Expires, cred.Expires)
	case !platform.SameID(claims.Context, contextID):
		w.t.Errorf("answered a token for %s, want %s", claims.Context, contextID)
	}
}

// wantError checks why there is no credential.
func wantError(t *testing.T, err error, outcome Outcome, text string) {
	t.Helper()
	if outcomeOf(err) != outcome || err.Error() != text {
		t.Errorf("error = %s: %v\n       want %s: %s", outcomeOf(err), err, outcome, text)
	}
}

// outcomeOf is the outcome of an *Error, "" if err is none.
func outcomeOf(err error) Outcome {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e.Outcome
	}
	return ""
}

// wantNotes checks what a person is told although it worked; each note must
// hold its text.
func wantNotes(t *testing.T, cred *Credential, texts ...string) {
	t.Helper()
	ok := len(cred.Notes) == len(texts)
	for i := 0; ok && i < len(texts); i++ {
		ok = strings.Contains(cred.Notes[i], texts[i])
	}
	if !ok {
		t.Errorf("notes = %q, want %q", cred.Notes, texts)
	}
}

// stored is the login at rest, nil if there is none.
func (w *world) stored(place config.Login) *store.Login {
	w.t.Helper()
	login, err := store.File{Dir: w.path(place.Store)}.Load(w.ctx(), store.Key{Identity: place.Identity, Profile: place.Profile})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		w.t.Fatal(err)
	}
	return login
}

// config is our config.json.
func (w *world) config() *config.Config {
	w.t.Helper()
	c, err := config.Load(w.path("config", "config.json"))
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// bind changes the binding of an address, as configure and context use do.
func (w *world) bind(address config.Address, change func(*config.Binding)) {
	w.t.Helper()
	err := config.Update(w.ctx(), w.path("config", "config.json"), func(c *config.Config) error {
		b := c.Bindings[address]
		change(&b)
		c.Bindings[address] = b
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// write makes a file on the machine's disk.
func (w *world) write(name, content string, mode os.FileMode) (path string) {
	w.t.Helper()
	path = w.path(name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), mode)); err != nil {
		w.t.Fatal(err)
	}
	return path
}
