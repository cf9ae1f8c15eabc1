package registry

import (
	"crypto/sha256"
	"sync"
	"time"
)

const (
	// cacheSize bounds each cache, in bytes: 5,000 ordinary tokens, or 150 of
	// those with a role in each of hundreds of contexts.
	cacheSize = 8 << 20
	// entrySize is what an entry takes, in bytes, beside its outcome's strings.
	entrySize = 512
)

// A cacheKey stands for a credential, so that a memory dump holds nothing one
// could log in with.
type cacheKey struct {
	of        string // a source, for a value as it stands there, or a kind, for a secret
	sum       [sha256.Size]byte
	contextID string // the one asked for
}

// newCacheKey makes the key for value. Hashing it in pieces spares a copy of
// it.
func newCacheKey(of, value, contextID string) cacheKey {
	key := cacheKey{of: of, contextID: contextID}
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

// size is in bytes, at most: a profile's strings are parts of the token's
// payload, and keep all of it.
func (o outcome) size() int {
	if o.profile == nil {
		return entrySize
	}
	const stringHeader = 16
	return entrySize + o.profile.payloadSize + stringHeader*(cap(o.profile.Roles)+cap(o.profile.Contexts))
}

// isRetired reports whether the profile is good no longer, though not expired.
func (o outcome) isRetired() bool { return o.profile != nil && o.profile.retired() }

// A cache remembers outcomes until an absolute time, which use does not
// prolong. Its zero value is empty.
type cache struct {
	mu      sync.Mutex
	entries map[cacheKey]entry
	size    int // of all entries, in bytes
}

type entry struct {
	outcome outcome
	expires time.Time
}

func (c *cache) get(key cacheKey, now time.Time) (outcome, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if ok && (!now.Before(e.expires) || e.outcome.isRetired()) {
		c.remove(key)
		return outcome{}, false
	}
	return e.outcome, ok
}

// put replaces what is known by key. To make room it evicts others, in random
// order: whom a flood evicts, it cannot choose.
func (c *cache) put(key cacheKey, o outcome, expires time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		c.entries = make(map[cacheKey]entry)
	}
	c.remove(key)
	c.size += o.size()
	for other := range c.entries {
		if c.size <= cacheSize {
			break
		}
		c.remove(other)
	}
	c.entries[key] = entry{o, expires}
}

func (c *cache) delete(key cacheKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(key)
}

func (c *cache) stat() CacheSize {
	c.mu.Lock()
	defer c.mu.Unlock()
	return CacheSize{len(c.entries), c.size}
}

// remove does nothing where there is nothing. The caller holds c.mu.
func (c *cache) remove(key cacheKey) {
	if e, ok := c.entries[key]; ok {
		c.size -= e.outcome.size()
		delete(c.entries, key)
	}
}
