// Package config keeps what is no secret: which login serves which registry
// address, and where each login lies. It knows nothing of the logins
// themselves.
package config

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/atomicfile"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/private"
)

// DefaultProfile is the profile of a login that no --profile named.
const DefaultProfile = "default"

// version is the format's. A file with another one was written by a newer
// program and is left alone. Since unknown fields are refused, a new field is a
// new version, from the first release on.
const version = 1

// maxSize is more than any number of bindings needs, in bytes.
const maxSize = 1 << 20

// Config says which login serves an address. The zero value serves none;
// [Load] gives the built-in binding where there is no file.
type Config struct {
	// Logins are where logins lie, also those that serve no address any more.
	Logins []Login
	// Bindings are the addresses that are served.
	Bindings map[Address]Binding
	// Origins are the files of others in which configure has put entries, by
	// path, and what it found there, as far as unconfigure has to know.
	Origins map[string]Origin
}

// Login says where one login lies. Identity and Profile name it.
type Login struct {
	Identity string `json:"identity"`
	Profile  string `json:"profile"`
	Store    string `json:"store"` // keychain or file
}

// Binding says which login serves an address.
type Binding struct {
	Identity string `json:"identity"`
	Profile  string `json:"profile"`
	// Context is the context that tokens for this address are for. Empty means
	// the login's default.
	Context string `json:"context,omitempty"`
	// APIKeyFile names a file with an API key that serves this address before
	// the login does. Empty means none.
	APIKeyFile string `json:"apiKeyFile,omitempty"`
	// ByConfigure: no login made this binding but configure, and unconfigure
	// takes it back.
	ByConfigure bool `json:"byConfigure,omitempty"`
	// NamedBy is the registry that named this address as its own, and which
	// nobody else has asked for. It keeps no login alive.
	NamedBy Address `json:"namedBy,omitempty"`
}

// Choose notes that a person has asked for this binding: from now on it is
// neither configure's nor that of the registry that named its address.
func (b *Binding) Choose() {
	b.ByConfigure, b.NamedBy = false, ""
}

// Origin is what was missing in a file, if anything, and what stood there instead. See
// dockerconfig.Origin, whose words these are.
type Origin struct {
	Missing string `json:"missing,omitempty"`
	Text    string `json:"text,omitempty"`
}

// file is the format at rest.
type file struct {
	Version  int                 `json:"version"`
	Logins   []Login             `json:"logins"`
	Bindings map[Address]Binding `json:"bindings"`
	Origins  map[string]Origin   `json:"origins,omitempty"`
}

// builtin is what holds until the first change is written.
func builtin() *Config {
	return &Config{Bindings: map[Address]Binding{
		platform.RegistryHost: {Identity: platform.IdentityURL, Profile: DefaultProfile},
	}}
}

// ErrUnusable is what a file that is there and cannot be used ends in.
var ErrUnusable = errors.New("reading bindings")

// Remedy is what mends a file that [Load] cannot use.
func Remedy(err error) string {
	if untrusted, ok := errors.AsType[*private.UntrustedError](err); ok {
		return untrusted.Remedy + orElsewhere()
	}
	if errors.Is(err, fs.ErrPermission) {
		return "let HOME be your own home folder, or make that file yours with chown" + orElsewhere()
	}
	return "mend that file, or move it away"
}

// Load reads the file at path. Where there is none, or path is empty, the
// platform's registry is bound to the platform's identity service. A file that
// cannot be understood, or that others can have written, is an error that names
// it: guessing could send a token to the wrong place.
func Load(path string) (*Config, error) {
	data, err := private.ReadTrusted(path, maxSize)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) { // HOME=/dev/null, as some services have it
		return builtin(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	c, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrUnusable, path, err)
	}
	return c, nil
}

func decode(data []byte) (*Config, error) {
	if len(data) > maxSize {
		return nil, fmt.Errorf("over %d bytes", maxSize)
	}
	// The version first: what a newer program wrote is not ours to criticise.
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, err
	}
	if v.Version != version {
		return nil, fmt.Errorf("has version %d and not %d: another version of this program wrote it", v.Version, version)
	}
	var in file
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		if strings.Contains(err.Error(), "unknown field") { // encoding/json has no type for it
			err = fmt.Errorf("%w: perhaps another version of this program wrote it", err)
		}
		return nil, err
	}
	for _, l := range in.Logins {
		if l.Identity == "" || l.Profile == "" || l.Store == "" {
			return nil, errors.New("a login lacks its identity, profile or store")
		}
	}
	for address, b := range in.Bindings {
		canonical, err := ParseAddress(string(address))
		if err != nil || canonical != address {
			return nil, fmt.Errorf("binding %q is not an address in its canonical spelling", address)
		}
		if b.Identity == "" || b.Profile == "" {
			return nil, fmt.Errorf("binding %q lacks its identity or profile", address)
		}
	}
	if in.Bindings == nil {
		in.Bindings = map[Address]Binding{}
	}
	return &Config{in.Logins, in.Bindings, in.Origins}, nil
}

// Update changes the file at path through change, one process at a time, and
// creates it and its folder where they are missing. Nothing is written when
// change returns an error or changes nothing. It waits for its turn until ctx
// ends.
func Update(ctx context.Context, path string, change func(*Config) error) error {
	if path == "" {
		return fmt.Errorf("writing bindings: %w", ErrNoHome)
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // a link into somebody's dotfiles stays one
	}
	if _, err := Load(path); err != nil {
		return err // and no lock is put beside a file that is not ours
	}
	unlock, err := private.Lock(ctx, path+".lock", nil)
	var stuck *private.StuckError
	if err != nil && (ctx.Err() != nil || errors.As(err, &stuck)) {
		err = fmt.Errorf("waiting for %s: %w", path+".lock", err)
	}
	if err != nil {
		return fmt.Errorf("writing bindings: %w", err)
	}
	defer unlock()

	c, err := Load(path)
	if err != nil {
		return err
	}
	before, err := c.encode()
	if err != nil {
		return err
	}
	if err := change(c); err != nil {
		return err
	}
	after, err := c.encode()
	if err != nil || bytes.Equal(before, after) {
		return err
	}
	return atomicfile.Write(path, after)
}

// Preview returns what the file at path holds, nil if there is none, and what it
// would hold after Update.
func Preview(path string, change func(*Config) error) (before, after []byte, err error) {
	c, err := Load(path)
	if err != nil {
		return nil, nil, err
	}
	if path != "" {
		if before, err = os.ReadFile(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("reading bindings: %w", err)
		}
	}
	unchanged, err := c.encode()
	if err != nil {
		return nil, nil, err
	}
	if err := change(c); err != nil {
		return nil, nil, err
	}
	if after, err = c.encode(); err != nil || bytes.Equal(unchanged, after) {
		return before, before, err
	}
	return before, after, nil
}

func (c *Config) encode() ([]byte, error) {
	data, err := json.MarshalIndent(file{version, c.Logins, c.Bindings, c.Origins}, "", "  ")
	return append(data, '\n'), err
}

// Lookup returns the binding that serves address. A binding of the platform's
// registry without a port stands for all its ports that have none of their own.
func (c *Config) Lookup(address Address) (Binding, bool) {
	b, found := c.Bindings[address]
	if !found && address.IsPlatform() {
		b, found = c.Bindings[platform.RegistryHost]
	}
	return b, found
}

// IdentityOf is the identity service that address belongs to: the one it is
// bound to or, for the platform's registry, the platform's. Empty means none.
func (c *Config) IdentityOf(address Address) string {
	b, bound := c.Lookup(address)
	if !bound && address.IsPlatform() {
		return platform.IdentityURL
	}
	return b.Identity
}

// NamedBy is who has named what the registry at address names: the address that
// somebody has asked for, at the beginning of however long a chain.
func (c *Config) NamedBy(address Address) Address {
	b, own := c.Bindings[address]
	switch {
	case b.NamedBy != "":
		return b.NamedBy
	case !own && address.IsPlatform():
		return platform.RegistryHost // whose binding serves it
	}
	return address
}

// Place returns where the login of identity and profile lies, if there is one.
func (c *Config) Place(identity, profile string) (Login, bool) {
	for _, l := range c.Logins {
		if l.Identity == identity && l.Profile == profile {
			return l, true
		}
	}
	return Login{}, false
}

// SetPlace notes where a login lies.
func (c *Config) SetPlace(l Login) {
	c.removePlace(l.Identity, l.Profile)
	c.Logins = append(c.Logins, l)
}

func (c *Config) removePlace(identity, profile string) {
	c.Logins = slices.DeleteFunc(c.Logins, func(l Login) bool {
		return l.Identity == identity && l.Profile == profile
	})
}

// Served returns the addresses bound to the login, sorted.
func (c *Config) Served(identity, profile string) []Address {
	var served []Address
	for address, b := range c.Bindings {
		if b.Identity == identity && b.Profile == profile {
			served = append(served, address)
		}
	}
	slices.Sort(served)
	return served
}

// Bind binds the address to the login of identity and profile for configure, if
// it has no binding. The platform's registry goes to no other identity service
// than its own: a password that is meant for one would reach the other. A
// keyFile that is not empty serves the address before any login.
func (c *Config) Bind(address Address, identity, profile, keyFile string) {
	b, bound := c.Lookup(address)
	if !bound {
		b = Binding{Identity: identity, Profile: profile}
		if address.IsPlatform() {
			b.Identity = platform.IdentityURL
		}
	}
	if bound && keyFile == "" || b.Identity == "" {
		return
	}
	if _, own := c.Bindings[address]; !own {
		b.ByConfigure, b.NamedBy = true, "" // else it would outlive the binding that it has been copied from
	}
	b.APIKeyFile = keyFile
	c.Bindings[address] = b
}

// Unbind takes back what configure made of the address's own binding, and
// returns what that was.
func (c *Config) Unbind(address Address) Binding {
	b := c.Bindings[address]
	if b.ByConfigure {
		delete(c.Bindings, address)
	} else if b.APIKeyFile != "" {
		kept := b
		kept.APIKeyFile = ""
		c.Bindings[address] = kept
	}
	return b
}

// Forget removes the login's place. Its bindings stay: what Docker asks for then
// is told how to log in, and a new login finds its identity service and
// context. Only the platform's registry is no other identity service's without
// a login: a password that is meant for one would reach the other.
func (c *Config) Forget(identity, profile string) {
	c.removePlace(identity, profile)
	if identity == platform.IdentityURL {
		return
	}
	for _, address := range c.Served(identity, profile) {
		if address.IsPlatform() && c.Bindings[address].APIKeyFile == "" {
			delete(c.Bindings, address)
		}
	}
}
