package registry

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	defaultTTL = 15 * time.Minute
	minTTL     = time.Second
	// fetchTimeout is for one call, from the look-up of the name to the last
	// byte of the body.
	fetchTimeout = 10 * time.Second
	// retryInterval is how long after a call that failed Run makes the next.
	retryInterval = 10 * time.Second
	// refetchInterval is how long tokens with unknown key IDs, however many,
	// cause no more than one call. Anybody can invent a key ID.
	refetchInterval = time.Minute
	// maxSetSize is in bytes, as decoded.
	maxSetSize = 1 << 20
)

// JWKS is a set of keys that somebody publishes at a URL (RFC 7517 §5), so that
// they can be replaced without a restart. It stays as it is until a clean set is
// there to replace it: neither a URL that is away nor a broken answer locks
// anybody out. Its headers are not obeyed, a redirect is not followed.
type JWKS struct {
	URL    string           // https, or http to a literal loopback address
	Client *http.Client     // nil means one of its own, with the environment's proxy
	TTL    time.Duration    // how old Run lets the set become; 0 means 15 minutes
	Now    func() time.Time // nil means time.Now
	// Log gets a line when keys come or go, when calls begin to fail, and when
	// they succeed again. Nil means none.
	Log *slog.Logger

	set atomic.Pointer[[]*signer] // nil until the first clean set is there

	mu       sync.Mutex
	calls    int  // made so far
	answered int  // the latest of them that has brought a clean set
	failing  bool // since then
	refetch  *refetch
}

// check refuses what cannot work, or not safely. Its errors do not quote the
// URL: there may be a key in it.
func (s *JWKS) check() error {
	u, err := url.Parse(s.URL)
	if err != nil {
		return errors.New("JWKS URL is not a URL")
	}
	addr, err := netip.ParseAddr(u.Hostname())
	isLoopback := err == nil && addr.IsLoopback() // a name, localhost too, can be made to point elsewhere
	switch {
	case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback):
		return errors.New("JWKS URL is neither https:// nor http:// to a literal loopback address")
	case u.Hostname() == "":
		return errors.New("JWKS URL has no host")
	case u.User != nil:
		return errors.New("JWKS URL has a user name in it")
	case s.TTL != 0 && s.TTL < minTTL:
		return errors.New("JWKS with a TTL under a second")
	}
	return nil
}

var errNoKeys = errors.New("no keys fetched yet")

// Ready returns nil when there is a set, however old it is.
func (s *JWKS) Ready() error {
	if s.set.Load() == nil {
		return errNoKeys
	}
	return nil
}

// Run fetches the set each TTL, and more often while that fails, until ctx
// ends. Whoever wants a set from the start calls [JWKS.Fetch] first.
func (s *JWKS) Run(ctx context.Context) {
	err := s.Ready()
	for {
		wait := cmp.Or(s.TTL, defaultTTL)
		if err != nil {
			wait = min(wait, retryInterval)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		err = s.Fetch(ctx)
	}
}

// Fetch gets the set, within 10 s, and puts its keys in force if it is clean.
// Otherwise the keys stay that are there.
func (s *JWKS) Fetch(ctx context.Context) error {
	s.mu.Lock()
	call := s.begin()
	s.mu.Unlock()
	return s.fetch(ctx, call)
}

// begin numbers the next call. The caller holds s.mu.
func (s *JWKS) begin() (call int) {
	s.calls++
	return s.calls
}

func (s *JWKS) fetch(ctx context.Context, call int) error {
	keys, err := s.get(ctx)

	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case call < s.answered: // somebody asked later, and knows better
	case err == nil:
		s.answered = call
		s.conclude(keys, nil)
	case ctx.Err() == nil:
		s.conclude(nil, err)
	}
	return err
}

// conclude takes note of how a call has ended. The caller holds s.mu.
func (s *JWKS) conclude(keys []Key, err error) {
	log := s.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err != nil {
		if !s.failing {
			log.Warn("signing keys cannot be fetched; those at hand stay in force", "keys", ids(s.signers()), "error", err)
		}
		s.failing = true
		return
	}
	added, gone := s.replace(keys)
	if s.failing || len(added) > 0 || len(gone) > 0 {
		log.Info("signing keys fetched", "keys", ids(s.signers()), "added", ids(added), "gone", ids(gone))
	}
	s.failing = false
}

// replace puts keys in force, and returns which have come and gone. One that is
// in force already goes on as it is, and with it what is remembered of its
// tokens.
func (s *JWKS) replace(keys []Key) (added, gone []*signer) {
	before := s.signers()
	after := make([]*signer, len(keys))
	for i, key := range keys {
		after[i] = &signer{Key: key}
		if known := find(before, key.ID); known != nil && known.Public.Equal(key.Public) {
			after[i] = known
		}
	}
	s.set.Store(&after)
	added, gone = notIn(before, after), notIn(after, before)
	for _, old := range gone {
		old.retired.Store(true)
	}
	return added, gone
}

// notIn is those of signers that are not in set.
func notIn(set, signers []*signer) (rest []*signer) {
	for _, s := range signers {
		if !slices.Contains(set, s) {
			rest = append(rest, s)
		}
	}
	return rest
}

func (s *JWKS) signers() []*signer {
	if set := s.set.Load(); set != nil {
		return *set
	}
	return nil
}

// signer is the key of that ID, or nil if there is none. Who asks for a key in
// force waits for nobody; who asks for another, for one call that all of them
// share. The error says that the key may exist, and the call has failed.
func (s *JWKS) signer(ctx context.Context, id string) (*signer, error) {
	if known := find(s.signers(), id); known != nil {
		return known, nil
	}
	err := s.refetched(ctx)
	if known := find(s.signers(), id); known != nil { // by whichever call
		return known, nil
	}
	return nil, err
}

// A refetch is a call for the sake of unknown key IDs. It is remembered for
// refetchInterval, and answers for all of them as long.
type refetch struct {
	asked time.Time
	call  int
	done  chan struct{} // closed when err is there
	err   error
}

// refetched waits for a call that is not older than refetchInterval. The call
// goes on when ctx ends, for the others who wait.
func (s *JWKS) refetched(ctx context.Context) error {
	s.mu.Lock()
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	r := s.refetch
	if asked := now(); r == nil || asked.Sub(r.asked) >= refetchInterval {
		r = &refetch{asked: asked, call: s.begin(), done: make(chan struct{})}
		s.refetch = r
		go func() {
			defer close(r.done)
			r.err = s.fetch(context.WithoutCancel(ctx), r.call)
		}()
	}
	s.mu.Unlock()
	select {
	case <-r.done:
		if s.isAnsweredSince(r.call) {
			return nil
		}
		return r.err
	case <-ctx.Done():
		return fmt.Errorf("waiting for keys: %w", context.Cause(ctx))
	}
}

// isAnsweredSince reports whether there is a clean set of a later call, which
// makes up for one that has failed.
func (s *JWKS) isAnsweredSince(call int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answered > call
}

// get makes the call. Its errors name the host, and no more of the URL.
func (s *JWKS) get(ctx context.Context) ([]Key, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		return nil, errors.New("JWKS URL is not a URL")
	}
	data, err := s.download(r)
	if err != nil {
		return nil, fmt.Errorf("fetching keys from %s: %w", r.URL.Host, err)
	}
	keys, err := parseKeySet(data)
	if err != nil {
		return nil, fmt.Errorf("keys from %s: %w", r.URL.Host, err)
	}
	return keys, nil
}

func (s *JWKS) download(r *http.Request) ([]byte, error) {
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	client := *cmp.Or(s.Client, keyClient)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(r)
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return nil, wrapped.Err // the error around it quotes the URL
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the answer is %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxSetSize+1))
	if err == nil && len(data) > maxSetSize {
		err = errors.New("the answer is longer than 1 MiB")
	}
	return data, err
}

// keyClient makes a call in a quarter of an hour, and keeps no connection.
var keyClient = &http.Client{Transport: &http.Transport{
	Proxy: func(r *http.Request) (*url.URL, error) {
		proxy, err := http.ProxyFromEnvironment(r)
		if err != nil { // it quotes HTTPS_PROXY, password and all
			return nil, errors.New("the proxy's address is not a URL")
		}
		return proxy, nil
	},
	TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
	ForceAttemptHTTP2:      true,
	DisableKeepAlives:      true,
	MaxResponseHeaderBytes: 64 << 10,
}}
