// Package identity is the platform's identity service in memory, for trying
// things out and for tests: its endpoints, a signing key and a clock. It
// writes no files and calls nobody.
package identity

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

// BasePath is where the API begins at the service's address.
const BasePath = "/api/2021-02-21"

// Config says who may log in and how tokens are made. Only Users has no
// default.
type Config struct {
	Users []User
	// Now is the service's clock; nil means time.Now.
	Now func() time.Time
	// Lifetime of a token from iat to exp, in whole seconds; 0 means 24 hours.
	Lifetime time.Duration
	// Key signs tokens; nil means a new one of 2048 bits.
	Key *rsa.PrivateKey
	// KeyID is the kid of tokens; "" means the platform's dtz1.
	KeyID string
	// APIKeys are the keys known from the start.
	APIKeys []APIKey
	// SaveAPIKeys, if set, is called with all keys whenever one is made or
	// deleted, one call at a time. When it fails the change is undone and the
	// request gets a 500: a key that would not outlive a restart is not given
	// out.
	SaveAPIKeys func([]APIKey) error
}

// User is an identity and its way to log in.
type User struct {
	Name     string
	Password secret.String
	Subject  string // identity id, the claim sub
	Email    string // "" means none: /me/email answers 404
	// Contexts that the identity may use, the default one first.
	Contexts []string
	// Roles are the claim roles. {context_id} in one makes it a role in each
	// of Contexts, {identity_id} stands for Subject.
	Roles []string
}

// Service is an identity service. Its methods may be called at the same time.
type Service struct {
	now         func() time.Time
	lifetime    time.Duration
	key         *rsa.PrivateKey
	keyID       string
	users       []User // never changes
	saveAPIKeys func([]APIKey) error
	mux         *http.ServeMux
	crossOrigin *http.CrossOriginProtection

	mu      sync.Mutex
	calls   map[string]int
	apiKeys map[string]APIKey   // by APIKey.Hash
	codes   map[string]code     // authorization codes not used yet
	clients map[string][]string // context → its registered redirect URIs
	issued  uint64              // number of tokens issued
	revoked map[string]uint64   // subject → tokens up to this number are revoked
}

// New returns a service for the users of c.
func New(c Config) (*Service, error) {
	s := &Service{
		now:         c.Now,
		lifetime:    c.Lifetime,
		key:         c.Key,
		keyID:       c.KeyID,
		saveAPIKeys: c.SaveAPIKeys,
		crossOrigin: http.NewCrossOriginProtection(),
		calls:       make(map[string]int),
		apiKeys:     make(map[string]APIKey),
		codes:       make(map[string]code),
		clients:     make(map[string][]string),
		revoked:     make(map[string]uint64),
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.lifetime == 0 {
		s.lifetime = 24 * time.Hour
	}
	if s.lifetime < time.Second || s.lifetime%time.Second != 0 {
		return nil, fmt.Errorf("a token's lifetime is whole seconds, at least one, not %v", s.lifetime)
	}
	if s.keyID == "" {
		s.keyID = "dtz1"
	}
	if s.saveAPIKeys == nil {
		s.saveAPIKeys = func([]APIKey) error { return nil }
	}
	for _, u := range c.Users {
		if err := s.add(u); err != nil {
			return nil, fmt.Errorf("user %q: %w", u.Name, err)
		}
	}
	for _, k := range c.APIKeys {
		if _, _, err := s.find(k.Subject, k.Context); err != nil {
			return nil, fmt.Errorf("API key %q: %w", k.Alias, err)
		}
		s.apiKeys[k.Hash] = k
	}
	if s.key == nil {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, fmt.Errorf("generating a signing key: %w", err)
		}
		s.key = key
	}
	s.routes()
	return s, nil
}

// add takes u in, its roles written out.
func (s *Service) add(u User) error {
	switch {
	case u.Name == "" || u.Password == "" || u.Subject == "":
		return errors.New("name, password and subject are needed")
	case len(u.Contexts) == 0:
		return errors.New("at least one context is needed")
	case s.userNamed(u.Name) != nil || s.userWith(u.Subject) != nil:
		return errors.New("name and subject have to be the user's own")
	}
	roles := []string{}
	for _, role := range u.Roles {
		role = strings.ReplaceAll(role, "{identity_id}", u.Subject)
		if !strings.Contains(role, "{context_id}") {
			roles = append(roles, role)
			continue
		}
		for _, context := range u.Contexts {
			roles = append(roles, platform.RoleFor(role, context))
		}
	}
	u.Roles = roles
	s.users = append(s.users, u)
	return nil
}

// ServeHTTP answers the API below [BasePath], the login page at /login, and
// the discovery documents below /.well-known.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat)) // clients compare exp with it
	s.mux.ServeHTTP(w, r)
}

func (s *Service) routes() {
	s.mux = http.NewServeMux()
	s.handle("POST", BasePath+"/token/auth", s.tokenAuth)
	s.handle("POST", BasePath+"/token/refresh", s.tokenRefresh)
	s.handle("POST", BasePath+"/auth/apikey", s.authAPIKey)
	s.handle("GET", BasePath+"/context", s.listContexts)
	s.handle("GET", BasePath+"/me", s.me)
	s.handle("GET", BasePath+"/me/email", s.email)
	s.handle("POST", BasePath+"/me/identity/apikey", s.createAPIKey)
	s.handle("DELETE", BasePath+"/me/identity/apikey/{apikey}", s.deleteAPIKey)
	s.handle("GET", BasePath+"/oauth/authorize", s.authorize)
	s.handle("POST", BasePath+"/oauth/token", s.oauthToken)
	s.handle("GET", BasePath+"/oauth/userinfo", s.userinfo)
	s.handle("POST", BasePath+"/oauth/register", s.register)
	s.handle("GET", "/login", s.loginPage)
	s.handle("POST", "/login", s.login)
	s.handle("GET", "/login.css", s.loginStyle)
	s.handle("GET", "/.well-known/openid-configuration", s.discovery)
	s.handle("GET", jwksPath, s.jwks)
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, refuse(http.StatusNotFound, "no such endpoint"))
	})
}

// handle routes method and path to h and counts its calls.
func (s *Service) handle(method, path string, h func(http.ResponseWriter, *http.Request) error) {
	call := strings.TrimPrefix(path, BasePath)
	s.mux.HandleFunc(method+" "+path, func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.calls[call]++
		s.mu.Unlock()
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if err := h(w, r); err != nil {
			writeError(w, err)
		}
	})
}

// Calls counts the requests for path that have arrived, refused ones too. Path
// begins behind [BasePath] and names what varies in braces: /token/refresh,
// /me/identity/apikey/{apikey}.
func (s *Service) Calls(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[path]
}

// PublicKey verifies the service's tokens.
func (s *Service) PublicKey() *rsa.PublicKey { return &s.key.PublicKey }

// PublicKeyPEM returns [Service.PublicKey] as a PEM block of type PUBLIC KEY.
func (s *Service) PublicKeyPEM() string {
	der, err := x509.MarshalPKIXPublicKey(s.PublicKey())
	if err != nil {
		panic(err) // only for key types that it does not know
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// checkPassword returns the user who has this name and password.
func (s *Service) checkPassword(username string, password secret.String) (*User, error) {
	u := s.userNamed(username)
	want := u
	if want == nil {
		want = &User{} // an unknown name costs the same time
	}
	a, b := sha256.Sum256([]byte(password.Reveal())), sha256.Sum256([]byte(want.Password.Reveal()))
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 || u == nil {
		return nil, refuse(http.StatusUnauthorized, "wrong user name or password")
	}
	return u, nil
}

func (s *Service) userNamed(name string) *User {
	for i := range s.users {
		if s.users[i].Name == name {
			return &s.users[i]
		}
	}
	return nil
}

func (s *Service) userWith(subject string) *User {
	for i := range s.users {
		if platform.SameID(s.users[i].Subject, subject) {
			return &s.users[i]
		}
	}
	return nil
}

// find returns the user with the identity subject and context in the service's own
// spelling, the default one for "".
func (s *Service) find(subject, context string) (*User, string, error) {
	u := s.userWith(subject)
	if u == nil {
		return nil, "", fmt.Errorf("no user has the identity %q", subject)
	}
	context, found := u.context(context)
	if !found {
		return nil, "", fmt.Errorf("%s may not use this context", u.Subject)
	}
	return u, context, nil
}

// context returns the service's own spelling of one of u's contexts, the default
// one for "".
func (u *User) context(id string) (context string, found bool) {
	if id == "" {
		return u.Contexts[0], true
	}
	for _, context := range u.Contexts {
		if platform.SameContext(context, id) {
			return context, true
		}
	}
	return "", false
}
