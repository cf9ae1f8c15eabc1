package registry

import (
	"crypto/sha256"
	"sync"
	"time"
)

// cacheSize bounds a cache, in entries.
const cacheSize = 4096

// A cacheKey is a credential as a request presents it, without the credential:
// what lies in memory for hours is not good for a login.
type cacheKey struct {
	source string
	sum    [sha256.Size]byte
}

// newCacheKey makes the key for value as it stands in the source. Hashing it
// in pieces spares a copy of it.
func newCacheKey(source, value string) cacheKey {
	key := cacheKey{source: source}
	h := sha256.New()
	var piece [512]byte
	for value != "" {
		n := copy(piece[:], value)
		h.Write(piece[:n])
		value = value[n:]
	}
	h.Sum(key.sum[:0])
	return key
}

// An outcome is what is known of a credential: a profile or an error.
type outcome struct {
	profile *Profile
	err     error
}

// A cache remembers outcomes until an absolute time, which use does not
// prolong. Its zero value is empty.
type cache struct {
	mu      sync.Mutex
	entries map[cacheKey]entry
}

type entry struct {
	outcome outcome
	expires time.Time
}

func (c *cache) get(key cacheKey, now time.Time) (outcome, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if ok && !now.Before(e.expires) {
		delete(c.entries, key)
		return outcome{}, false
	}
	return e.outcome, ok
}

func (c *cache) put(key cacheKey, o outcome, expires time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		c.entries = make(map[cacheKey]entry)
	}
	for other := range c.entries { // in random order: whom a flood evicts, it cannot choose
		if len(c.entries) < cacheSize {
			break
		}
		delete(c.entries, other)
	}
	c.entries[key] = entry{o, expires}
}
