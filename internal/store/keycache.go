package store

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/atomicfile"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/private"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

// KeyCache keeps the JWT that an API key of the environment was exchanged for,
// so that each docker push of a pipeline makes no exchange of its own. The file
// is sealed with a key derived from the API key (HKDF-SHA256, RFC 5869, random
// salt): whoever can open it has the API key already.
type KeyCache struct {
	path string // empty: nothing is kept
	key  secret.String
	info string
}

// minKeyLength is the shortest API key, in bytes, that is worth a file: a
// shorter one could be guessed from it.
const minKeyLength = 20

const saltSize = 32 // bytes

// NewKeyCache returns the cache of one API key for one identity service and
// context, below dir. Where dir is empty or the key is short it keeps nothing.
func NewKeyCache(dir string, key secret.String, identity, contextID string) (*KeyCache, error) {
	c := &KeyCache{key: key, info: identity + "\x00" + contextID}
	if dir == "" || len(key) < minKeyLength {
		return c, nil
	}
	// Its name must tell nothing of the key either, so it is derived likewise.
	name, err := hkdf.Key(sha256.New, []byte(key.Reveal()), nil, "docker-credential-dtz cache name\x00"+c.info, 16)
	if err != nil {
		return nil, fmt.Errorf("naming the cache: %w", err)
	}
	c.path = filepath.Join(dir, hex.EncodeToString(name))
	return c, nil
}

// Where says to people where the JWT lies, if it does.
func (c *KeyCache) Where() []string {
	if c.path == "" {
		return nil
	}
	if _, err := os.Stat(c.seal()); err != nil {
		return nil
	}
	return []string{"the file " + c.seal() + ", sealed with a key made from the API key"}
}

// Slot is what processes that use the same key share.
func (c *KeyCache) Slot() Slot { return Slot{c.path} }

func (c *KeyCache) seal() string { return c.path + ".sealed" }

func (c *KeyCache) sealingKey(salt []byte) ([]byte, error) {
	return hkdf.Key(sha256.New, []byte(c.key.Reveal()), salt, "docker-credential-dtz cache\x00"+c.info, sealedKeySize)
}

// Load returns the JWT, the zero Token if there is none. A file that cannot be
// opened counts as none: the exchange that follows replaces it.
func (c *KeyCache) Load() Token {
	if c.path == "" {
		return Token{}
	}
	data, err := private.Read(c.seal(), maxFile)
	if err != nil || len(data) < saltSize {
		return Token{}
	}
	key, err := c.sealingKey(data[:saltSize])
	if err != nil {
		return Token{}
	}
	plaintext, err := unseal(key, data[saltSize:], c.info)
	if err != nil {
		return Token{}
	}
	var r tokenRecord
	if err := json.Unmarshal(plaintext, &r); err != nil {
		return Token{}
	}
	t, err := r.token()
	if err != nil {
		return Token{}
	}
	return t
}

// Save keeps the JWT. The caller holds the [Slot].
func (c *KeyCache) Save(t Token) error {
	if c.path == "" {
		return nil
	}
	plaintext, err := json.Marshal(t.record())
	if err != nil {
		return err
	}
	sealed, err := c.sealed(plaintext)
	if err != nil {
		return err
	}
	return atomicfile.Write(c.seal(), sealed)
}

// sealed is the file's content: the salt, and what is sealed with the key that
// it gives.
func (c *KeyCache) sealed(plaintext []byte) ([]byte, error) {
	salt := randomBytes(saltSize)
	key, err := c.sealingKey(salt)
	if err != nil {
		return nil, err
	}
	sealed, err := seal(key, plaintext, c.info)
	return append(salt, sealed...), err
}

// ErrNoCacheDir is returned by [CacheDir] where no folder is safe.
var ErrNoCacheDir = errors.New("no folder for the cache")

// CacheDir is the first of dirs that is, or can be made, a folder that only
// this user can enter. Empty names are passed over.
func CacheDir(dirs ...string) (string, error) {
	no := ErrNoCacheDir
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		err := privateDir(dir)
		if err == nil {
			return dir, nil
		}
		no = fmt.Errorf("%w: %w", no, err)
	}
	return "", no
}

// privateDir makes dir, or checks that it is a real folder of this user's that
// nobody else can enter: under a shared temporary folder anybody could have
// made it first.
func privateDir(dir string) error {
	if err := private.MkdirAll(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a folder", dir)
	}
	return ownedPrivately(dir, info)
}
