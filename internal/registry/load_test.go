package registry

import (
	"context"
	"crypto/rsa"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A fact is true or false for a time, and changes while others look. It
// remembers between which moments each change has come about.
type fact struct {
	mu      sync.RWMutex
	changes []change
}

type change struct {
	value      bool
	begin, end time.Time // end is zero until it has certainly come about
}

func newFact(value bool) *fact {
	return &fact{changes: []change{{value: value, begin: time.Now(), end: time.Now()}}}
}

// become makes the fact true or false by apply.
func (f *fact) become(value bool, apply func()) {
	f.mu.Lock()
	f.changes = append(f.changes, change{value: value, begin: time.Now()})
	last := len(f.changes) - 1
	f.mu.Unlock()
	apply()
	f.mu.Lock()
	f.changes[last].end = time.Now()
	f.mu.Unlock()
}

// may reports whether the fact can have been so at some moment of s.
func (f *fact) may(value bool, s span) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for i := len(f.changes) - 1; i >= 0; i-- {
		if f.changes[i].value == value && !f.changes[i].begin.After(s.end) {
			return true
		}
		if end := f.changes[i].end; !end.IsZero() && end.Before(s.start) {
			return false
		}
	}
	return false
}

// A span is the time that a request takes.
type span struct{ start, end time.Time }

// isLong reports whether an exchange can have waited too long meanwhile: the
// machine may be slow.
func (s span) isLong() bool { return s.end.Sub(s.start) >= maxWait }

// A world is what is true while the load is on: which of the issuer's keys are
// in force, who is denied, and whether the identity service is there.
type world struct {
	handler   *Handler
	denyList  *DenyList
	publisher *publisher
	set       *JWKS

	keys    []*rsa.PrivateKey
	inForce []*fact // of each key
	settled *fact   // whether no key is coming or going
	signing atomic.Int32
	tokens  [identities][]string // of each identity, by each key
	denied  [identities]*fact
	keyGone [identities]*fact                                 // whether its API key is denied
	began   [identities + strangers]atomic.Pointer[time.Time] // when its API key was exchanged last
	away    *fact
	isAway  atomic.Bool
	forged  string
	expired string
	counts  [600]atomic.Int64 // answers by their status
}

const (
	identities = 50
	strangers  = 3 // whose API keys come again and again, and are refused
)

func identityName(i int) string { return fmt.Sprintf("identity-load%04d", i) }
func apiKeyOf(i int) string     { return fmt.Sprintf("apikey-load%04d", i) }
func keyID(k int) string        { return fmt.Sprint("key", k) }

func newWorld(t *testing.T) *world {
	w := &world{
		keys:      []*rsa.PrivateKey{firstKey(), secondKey(), generateKey()},
		publisher: newPublisher(),
		settled:   newFact(true),
		away:      newFact(false),
		denyList:  newDenyList(t, `{}`),
	}
	now := time.Now()
	claims := goodClaims.with("iat", unix(now)).with("exp", unix(now.Add(time.Hour)))
	for i := range w.began {
		w.began[i].Store(&now)
	}
	for i := range identities {
		w.denied[i], w.keyGone[i] = newFact(false), newFact(false)
		for k := range w.keys {
			w.tokens[i] = append(w.tokens[i], w.sign(k, claims.with("sub", quote(identityName(i)))))
		}
	}
	w.forged = sign(foreignKey(), goodHeader.with("kid", quote(keyID(0))).String(), claims.String())
	w.expired = w.sign(0, claims.with("exp", unix(now.Add(-time.Minute))))
	for k := range w.keys {
		w.inForce = append(w.inForce, newFact(k == 0))
	}
	w.set = w.publisher.set()
	w.publish(0)
	fetch(t, w.set)
	c := testConfig()
	c.Keys, c.JWKS, c.Now, c.Leeway = nil, w.set, nil, 0
	w.handler = &Handler{
		Authenticator: &Authenticator{Verifier: newVerifier(t, c), Exchange: w.exchange, DenyList: w.denyList},
		Policy:        Policy{Contexts: []string{"context-abc12345"}},
		Next:          http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }),
	}
	return w
}

func (w *world) sign(k int, claims jsonText) string {
	return sign(w.keys[k], goodHeader.with("kid", quote(keyID(k))).String(), claims.String())
}

func (w *world) publish(keys ...int) {
	var published []fmt.Stringer
	for _, k := range keys {
		published = append(published, jwk(keyID(k), &w.keys[k].PublicKey))
	}
	w.publisher.publish(published...)
}

func (w *world) exchange(_ context.Context, apiKey, _ string) (string, error) {
	var i int
	_, err := fmt.Sscanf(apiKey, "apikey-load%04d", &i)
	if err == nil {
		w.began[i].Store(new(time.Now()))
	}
	switch {
	case w.isAway.Load():
		return "", errAway
	case err != nil || i >= identities:
		return "", ErrKeyRefused
	}
	return w.tokens[i][w.signing.Load()], nil
}

// rotate brings a key in, signs with it, and takes the other out.
func (w *world) rotate(t *testing.T, from, to int) {
	w.settled.become(false, func() {
		w.inForce[to].become(true, func() {
			w.publish(from, to)
			fetch(t, w.set)
		})
		w.signing.Store(int32(to))
		w.inForce[from].become(false, func() {
			w.publish(to)
			fetch(t, w.set)
		})
	})
	w.settled.become(true, func() {})
}

// deny has one identity and the API key of another on the list, and nobody else.
func (w *world) deny(t *testing.T, identity, keyOwner int) {
	write := func(text string) {
		writeDenyList(t, w.denyList.path, text)
		w.denyList.refresh()
	}
	w.denied[identity].become(true, func() {
		w.keyGone[keyOwner].become(true, func() {
			write(denying(quote(identityName(identity)), quote(sumOf(apiKeyOf(keyOwner)))))
		})
	})
	time.Sleep(5 * time.Millisecond)
	w.denied[identity].become(false, func() {
		w.keyGone[keyOwner].become(false, func() { write(`{}`) })
	})
}

// ask makes a request, counts the answer and returns its status.
func (w *world) ask(header http.Header) (status int, took span) {
	r := httptest.NewRequest("GET", "/v2/app/manifests/v1", nil)
	r.Header = header
	recorder := httptest.NewRecorder()
	took.start = time.Now()
	w.handler.ServeHTTP(recorder, r)
	took.end = time.Now()
	w.counts[recorder.Code].Add(1)
	return recorder.Code, took
}

// tokenClient has a token of i, by any of the keys.
func (w *world) tokenClient(t *testing.T, i int) {
	k := rand.IntN(len(w.keys))
	token := w.tokens[i][k]
	header := http.Header{"Authorization": {"Bearer " + token}}
	if i%2 == 0 {
		header = http.Header{"Cookie": {"theme=dark; dtz-auth=" + token}}
	}
	status, took := w.ask(header)
	right := false
	switch status {
	case 200:
		right = w.inForce[k].may(true, took) && w.denied[i].may(false, took)
	case 401:
		right = w.inForce[k].may(false, took)
	case 403:
		right = w.denied[i].may(true, took)
	}
	if !right {
		t.Errorf("a token of %s by %s gets %d", identityName(i), keyID(k), status)
	}
}

// keyClient has the API key of i.
func (w *world) keyClient(t *testing.T, i int) {
	header := http.Header{"X-Api-Key": {apiKeyOf(i)}}
	if i%2 == 0 {
		header = http.Header{"Authorization": {basic("apikey", apiKeyOf(i))}}
	}
	lastExchange := w.began[i].Load() // it may be under way
	status, took := w.ask(header)
	right := false
	switch status {
	case 200:
		right = w.denied[i].may(false, took) && w.keyGone[i].may(false, took)
	case 401:
		right = w.keyGone[i].may(true, took)
	case 403:
		right = w.denied[i].may(true, took)
	case 503: // also when the exchanged token's key has gone on its way, or this one was denied for a moment
		took.start = *lastExchange // since which the one shared has waited
		right = w.away.may(true, took) || w.settled.may(false, took) || w.keyGone[i].may(true, took) || took.isLong()
	case 429:
		took.start = *lastExchange
		right = took.isLong()
	}
	if !right {
		t.Errorf("the API key of %s gets %d", identityName(i), status)
	}
}

// badClient has nothing good, and something else each time.
func (w *world) badClient(t *testing.T) {
	var header http.Header
	var since *time.Time // its exchange may have waited; nil: there is none
	switch rand.IntN(5) {
	case 0:
		header = http.Header{"Authorization": {"Bearer " + w.forged}}
	case 1:
		header = http.Header{"Cookie": {"dtz-auth=" + w.expired}}
	case 2:
		header = http.Header{"Authorization": {basic("bearer", strings.Repeat("a.", rand.IntN(9)))}}
	case 3:
		header = http.Header{"X-Api-Key": {fmt.Sprint("apikey-", rand.Uint64())}}
		since = new(time.Now())
	case 4:
		i := identities + rand.IntN(strangers)
		header = http.Header{"X-Api-Key": {apiKeyOf(i)}}
		since = w.began[i].Load() // as of a key that is good
	}
	status, took := w.ask(header)
	right := status == 401
	if since != nil {
		took.start = *since
		right = right || status == 503 && w.away.may(true, took) || (status == 503 || status == 429) && took.isLong()
	}
	if !right {
		t.Errorf("%v gets %d", header, status)
	}
}

// Two hundred clients, a tenth of them bad, ask while keys rotate, the
// deny-list changes and the identity service goes away: each is told what was
// true at some moment while he asked.
func TestUnderLoad(t *testing.T) {
	w := newWorld(t)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)

	var clients sync.WaitGroup
	var done atomic.Bool
	for n := range 200 {
		clients.Go(func() {
			for !done.Load() {
				switch {
				case n%10 == 9:
					w.badClient(t)
				case n%2 == 0:
					w.tokenClient(t, n/4%identities)
				default:
					w.keyClient(t, n/4%identities)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	for step := range 30 {
		w.rotate(t, step%3, (step+1)%3)
		for n := range 3 {
			w.deny(t, (3*step+n)%identities, (3*step+n+7)%identities)
		}
		if step%5 == 4 {
			known := func() int {
				status, _ := w.ask(http.Header{"X-Api-Key": {apiKeyOf(0)}})
				return status
			}
			for known() != http.StatusOK { // an exchange of before the rotation may be under way
				time.Sleep(time.Millisecond)
			}
			w.away.become(true, func() { w.isAway.Store(true) })
			if status := known(); status != http.StatusOK {
				t.Errorf("an API key that is known gets %d while the identity service is away", status)
			}
			time.Sleep(30 * time.Millisecond)
			w.away.become(false, func() { w.isAway.Store(false) })
		}
	}
	done.Store(true)
	clients.Wait()

	total := int64(0)
	for status := range w.counts {
		if n := w.counts[status].Load(); n > 0 {
			t.Logf("%d: %d", status, n)
			total += n
		}
	}
	for _, status := range []int{200, 401, 403, 503} {
		if w.counts[status].Load() == 0 {
			t.Errorf("of %d answers none is %d", total, status)
		}
	}
	a := w.handler.Authenticator
	for name, size := range map[string]CacheSize{"tokens": a.Stats().Tokens, "keys": a.Stats().APIKeys, "refusals": a.Stats().Refusals} {
		if size.Bytes > cacheSize {
			t.Errorf("%s take %d bytes, want %d at most", name, size.Bytes, cacheSize)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4*cacheSize {
		t.Errorf("%d bytes more are held than before, want no more than full caches", grown)
	}
	t.Logf("%+v", a.Stats())
}
