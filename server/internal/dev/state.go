package dev

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/distribution/distribution/v3/configuration"
	// Storage drivers register themselves.
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/gofrs/flock"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/atomicfile"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/tenant"
)

// keyID is the kid of tokens, the platform's own.
const keyID = "dtz1"

// lockName is beside the state: that file is replaced, and a lock with it.
const lockName = "dev.lock"

// state is what makes a login outlive a restart: dev.json in the data folder.
type state struct {
	path string // "" means in memory

	Username   string            `json:"username"`
	Password   string            `json:"password"`
	Subject    string            `json:"subject"`
	Contexts   []string          `json:"contexts"`
	APIKey     string            `json:"apiKey"`
	APIKeys    []identity.APIKey `json:"apiKeys"`
	SigningKey []byte            `json:"signingKey"` // PKCS #8
}

// lock makes the folder data, if need be, and keeps it from other instances
// until unlock is called: each would overwrite the keys that the other makes.
// An empty data means in memory.
func lock(data string) (unlock func() error, err error) {
	if data == "" {
		return func() error { return nil }, nil
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	file := flock.New(filepath.Join(data, lockName))
	locked, err := file.TryLock()
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", data, err)
	}
	if !locked {
		return nil, fmt.Errorf("%s is in use by another dtz-registry", data)
	}
	return file.Unlock, nil
}

// openState reads the state in the folder data, or makes one there. An empty
// data means in memory.
func openState(data string) (*state, error) {
	if data == "" {
		return newState("")
	}
	path := filepath.Join(data, "dev.json")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newState(path)
	}
	if err != nil {
		return nil, err
	}
	s := &state{path: path}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	isNoContext := func(id string) bool { _, err := tenant.CanonicalID(id); return err != nil }
	if s.Username == "" || s.Password == "" || s.Subject == "" || len(s.Contexts) == 0 || slices.ContainsFunc(s.Contexts, isNoContext) {
		return nil, fmt.Errorf("%s: username, password, subject and at least one context's id are needed", path)
	}
	return s, nil
}

func newState(path string) (*state, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("generating a signing key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	s := &state{
		path:       path,
		Username:   "dev",
		Password:   rand.Text(),
		Subject:    newID("identity"),
		Contexts:   []string{newID("context"), newID("context")},
		SigningKey: der,
	}
	return s, s.save()
}

// newID is an identifier of eight characters, as the platform makes them.
func newID(kind string) string { return kind + "-" + strings.ToLower(rand.Text()[:8]) }

func (s *state) save() error {
	if s.path == "" {
		return nil
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(s.path, append(text, '\n'))
}

// saveAPIKeys is for [identity.Config].
func (s *state) saveAPIKeys(keys []identity.APIKey) error {
	s.APIKeys = keys
	return s.save()
}

// ensureAPIKey makes the user's API key at the first start, and after it has
// been deleted.
func (s *state) ensureAPIKey(service *identity.Service) error {
	isOurs := func(k identity.APIKey) bool { return k.Hash == identity.HashAPIKey(s.APIKey) }
	if slices.ContainsFunc(s.APIKeys, isOurs) {
		return nil
	}
	key, err := service.CreateKey(s.Subject, s.Contexts[0], "dtz-registry dev")
	if err != nil {
		return err
	}
	s.APIKey = key
	return s.save()
}

func (s *state) signingKey() (*rsa.PrivateKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(s.SigningKey)
	if err != nil {
		return nil, fmt.Errorf("%s: signing key: %w", s.path, err)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: signing key: %T, want an RSA key", s.path, parsed)
	}
	return key, nil
}

// user may do everything in his contexts.
func (s *state) user() identity.User {
	return identity.User{
		Name:     s.Username,
		Password: secret.String(s.Password),
		Subject:  s.Subject,
		Email:    s.Username + "@localhost",
		Contexts: s.Contexts,
		Roles: []string{
			platform.RegistryRole,
			"https://dtz.rocks/context/admin/{context_id}",
			"https://dtz.rocks/identity/admin/{identity_id}",
		},
	}
}

// storage is distribution's configuration for images in the folder data, or in
// memory where that is empty.
func storage(data string) func() *configuration.Configuration {
	uploadSecret := rand.Text()
	return func() *configuration.Configuration {
		c := &configuration.Configuration{}
		c.HTTP.Secret = uploadSecret
		c.Catalog.MaxEntries = 1000
		// Foreign layers name the addresses that they come from.
		c.Validation.Manifests.URLs.Allow = []string{"^https?://"}
		if data == "" {
			c.Storage = configuration.Storage{"inmemory": nil}
		} else {
			c.Storage = configuration.Storage{"filesystem": {"rootdirectory": filepath.Join(data, "registry")}}
		}
		return c
	}
}
