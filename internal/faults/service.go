package faults

import (
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
)

// Who may log in at a [Service].
const (
	User     = "alice@example.com"
	Password = "correct horse battery staple"
	Subject  = "identity-alice123"
	// Context is alice's default one, Context2 her other.
	Context  = "context-abc12345"
	Context2 = "context-def12345"
	// FatUser has so many roles that the tokens of FatContexts together do not
	// fit into an item of the keychain.
	FatUser = "fat@example.com"
)

// FatContexts are those of [FatUser].
var FatContexts = []string{"context-fat00001", "context-fat00002", "context-fat00003"}

// Service is an identity service that can misbehave.
type Service struct {
	// Identity is the service itself, without its faults.
	Identity *identity.Service

	t         testing.TB
	address   string
	yesterday *identity.Service
	closed    chan struct{} // ends what waits for ever

	mu     sync.Mutex
	fault  Fault
	server *http.Server // nil while nobody listens
	calls  map[string]int
	keys   []identity.APIKey
	shift  time.Duration // of its clock
}

// signingKey is shared, because making one is slow.
var signingKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// NewService starts an identity service that works. It ends with t.
func NewService(t testing.TB) *Service {
	t.Helper()
	s := &Service{t: t, closed: make(chan struct{}), calls: map[string]int{}}
	config := identity.Config{
		Now: s.now, Key: signingKey(),
		Users: []identity.User{{
			Name: User, Password: Password, Subject: Subject, Email: User,
			Contexts: []string{Context, Context2},
			Roles:    []string{"https://dtz.rocks/containerregistry/admin/{context_id}"},
		}, {
			Name: "bob@example.com", Password: Password, Subject: "identity-bob12345",
			Contexts: []string{"context-bob12345"},
		}, {
			Name: FatUser, Password: Password, Subject: "identity-fat12345",
			Contexts: FatContexts,
			Roles:    slices.Repeat([]string{"https://dtz.rocks/containerregistry/admin/" + strings.Repeat("x", 50)}, 380),
		}},
		SaveAPIKeys: func(keys []identity.APIKey) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.keys = keys
			return nil
		},
	}
	var err error
	if s.Identity, err = identity.New(config); err != nil {
		t.Fatal(err)
	}
	config.Now = func() time.Time { return s.now().Add(-25 * time.Hour) }
	if s.yesterday, err = identity.New(config); err != nil {
		t.Fatal(err)
	}
	if err := s.listen("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(s.closed)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.hangUp()
	})
	return s
}

// URL is what DTZ_IDENTITY_URL takes.
func (s *Service) URL() string { return "http://" + s.address + identity.BasePath }

func (s *Service) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Now().Add(s.shift)
}

// Shift sets how far the service's clock is ahead of the machine's.
func (s *Service) Shift(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shift = d
}

// Break makes the service misbehave from now on. [Works] mends it.
func (s *Service) Break(f Fault) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
	switch {
	case f.gone:
		s.hangUp()
	case s.server == nil:
		if err := s.listen(s.address); err != nil {
			s.t.Fatal(err)
		}
	}
}

// Calls counts the requests that have come for a path of the API, answered well
// or not. It begins behind [identity.BasePath] and names a key in braces:
// /token/refresh, /me/identity/apikey/{apikey}.
func (s *Service) Calls(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[path]
}

// Keys are the aliases of the API keys that there are.
func (s *Service) Keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var aliases []string
	for _, k := range s.keys {
		aliases = append(aliases, k.Alias)
	}
	return aliases
}

// listen begins to serve at address. The caller holds s.mu, if anybody else has
// the service by now.
func (s *Service) listen(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	s.address = l.Addr().String()
	server := &http.Server{Handler: s, ErrorLog: log.New(io.Discard, "", 0)}
	s.server = server
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			panic(err)
		}
	}()
	return nil
}

// hangUp ends the listener and all its connections. The caller holds s.mu.
func (s *Service) hangUp() {
	if s.server != nil {
		_ = s.server.Close()
		s.server = nil
	}
}

// ServeHTTP answers as the fault has it.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call := strings.TrimPrefix(r.URL.Path, identity.BasePath)
	if key, found := strings.CutPrefix(call, "/me/identity/apikey/"); found && key != "" {
		call = "/me/identity/apikey/{apikey}"
	}
	s.mu.Lock()
	s.calls[call]++
	f := s.fault
	s.mu.Unlock()
	if f.answer == nil {
		s.Identity.ServeHTTP(w, r)
		return
	}
	f.answer(s, w, r)
}
