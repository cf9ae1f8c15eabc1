package registry

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// An attacker may try keys for ever, and somebody may have tokens made for
// ever: they take bounded memory, and displace no good key.
func TestAFloodDisplacesNoGoodKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := &identity{answer: func(apiKey string) (string, error) {
			if apiKey != goodKey {
				return "", ErrKeyRefused
			}
			return tokenFor(time.Hour), nil
		}}
		a := newAuthenticator(t, service)
		if _, err := ask(t.Context(), a, goodKey); err != nil {
			t.Fatal(err)
		}
		for n := range 100 {
			if _, err := ask(t.Context(), a, fmt.Sprint("apikey-", n)); !isRefused(err) {
				t.Fatal(err)
			}
			r := httptest.NewRequest("GET", "/v2/", nil)
			r.Header.Set("Authorization", "Bearer "+tokenFor(time.Hour+time.Duration(n)*time.Second))
			if _, err := a.Authenticate(r); err != nil {
				t.Fatal(err)
			}
		}
		if tokens, keys, refused := len(a.tokens.entries), len(a.keys.entries), len(a.refused.entries); tokens != 100 || keys != 1 || refused != 100 {
			t.Errorf("%d tokens, %d keys and %d refusals are kept, want 100, 1 and 100, each in a cache of its own", tokens, keys, refused)
		}
	})
}

// What is kept is bounded by its bytes, whatever it is.
func TestCacheIsBounded(t *testing.T) {
	v := newVerifier(t, testConfig())
	outcomes := map[string]outcome{"refusals": {err: ErrKeyRefused}}
	for name, size := range map[string]int{"small tokens": 1 << 10, "large tokens": 40 << 10} {
		p, err := v.Verify(t.Context(), tokenOfSize(size))
		if err != nil {
			t.Fatal(err)
		}
		if p.payloadSize < size/3 {
			t.Errorf("%s of %d bytes are said to hold %d", name, size, p.payloadSize)
		}
		outcomes[name] = outcome{profile: p}
	}
	for name, o := range outcomes {
		var c cache
		for n := range 2 * cacheSize / entrySize {
			c.put(newCacheKey(name, fmt.Sprint(n), ""), o, monday)
			if c.size > cacheSize {
				t.Fatalf("%s: %d bytes are kept, want at most %d", name, c.size, cacheSize)
			}
		}
		if want := cacheSize / o.size(); len(c.entries) != want || c.size != want*o.size() {
			t.Errorf("%s: %d are kept with %d bytes, want %d", name, len(c.entries), c.size, want)
		}
	}
}

func TestCacheForgetsTheSizeOfWhatIsGone(t *testing.T) {
	var c cache
	key := newCacheKey("x", "", "")
	c.put(key, outcome{err: ErrKeyRefused}, monday)
	if _, ok := c.get(key, monday); ok || c.size != 0 || len(c.entries) != 0 {
		t.Errorf("found after its time: %v; %d entries with %d bytes, want none", ok, len(c.entries), c.size)
	}
}

func TestReplacingAnEntryEvictsNoOther(t *testing.T) {
	var c cache
	const full = cacheSize / entrySize
	for n := range full {
		c.put(newCacheKey("x", fmt.Sprint(n), ""), outcome{err: ErrKeyRefused}, monday)
	}
	for range 3 {
		c.put(newCacheKey("x", "0", ""), outcome{err: errAway}, monday)
	}
	if o, ok := c.get(newCacheKey("x", "0", ""), monday.Add(-time.Second)); !ok || o.err != errAway || len(c.entries) != full {
		t.Errorf("%v of %d entries, want the new one of %d", o.err, len(c.entries), full)
	}
}

// One credential in two sources is two: what the second is refused for may
// not be known from the first. Nor is what it may do in another context.
func TestCacheKey(t *testing.T) {
	long := strings.Repeat("a", 2000)
	keys := map[cacheKey]string{}
	for _, of := range []string{"Authorization header", "Cookie", "API key"} {
		for _, contextID := range []string{"", "context-abc12345"} {
			for _, value := range []string{"", "a", long, long + "a", long[:511] + "b" + long[512:], long[:512] + "b" + long[513:]} {
				what := of + ": " + value + " in " + contextID
				key := newCacheKey(of, value, contextID)
				if other, ok := keys[key]; ok {
					t.Errorf("%q and %q have one key", what, other)
				}
				if key != newCacheKey(of, strings.Clone(value), contextID) {
					t.Errorf("%q has two keys", what)
				}
				keys[key] = what
			}
		}
	}
}
