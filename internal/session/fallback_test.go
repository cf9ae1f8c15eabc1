package session

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// nameServer answers every question with NXDOMAIN (RFC 1035 §4.1.1).
func nameServer(t *testing.T) (address string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		message := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(message)
			if err != nil {
				return
			}
			message[2] |= 0x80                   // a response
			message[3] = message[3]&^0x0f | 0x03 // of code 3
			_, _ = conn.WriteTo(message[:n], from)
		}
	}()
	return conn.LocalAddr().String()
}

// noName is a network whose name server does not know the identity service.
func noName(t *testing.T) fault {
	server := nameServer(t)
	dialer := &net.Dialer{Resolver: &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "udp", server)
		},
	}}
	return fault{dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, "identity.example:443")
	}}
}

// badTLS is an identity service whose certificate nobody knows.
func badTLS(t *testing.T) (url string) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = discard
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL + identity.BasePath
}

// The key itself is handed out exactly where no connection to the identity
// service can be made, nothing else is at hand, and nobody has forbidden it:
// whoever can answer in the service's place must not get at keys by saying no.
func TestFallBackToTheKeyItself(t *testing.T) {
	t.Parallel()
	failures := []struct {
		name      string
		connected bool // by TCP, whatever came after
		fault     func(*testing.T) fault
		url       func(*testing.T) string
	}{
		{name: "connection refused", fault: func(*testing.T) fault { return away }},
		{name: "name not found", fault: noName},
		{name: "connection closed", connected: true, fault: func(*testing.T) fault { return hangsUp }},
		{name: "401", connected: true, fault: func(*testing.T) fault { return answers(http.StatusUnauthorized, "no") }},
		{name: "403", connected: true, fault: func(*testing.T) fault { return answers(http.StatusForbidden, "no") }},
		{name: "500", connected: true, fault: func(*testing.T) fault { return answers(http.StatusInternalServerError, "no") }},
		{name: "unknown certificate", connected: true, url: badTLS},
	}
	// Where the key may go, and with which settings.
	allowed := map[config.Address]string{
		registry:            "unset on",
		"cr.dtz.rocks:3214": "unset on",
		other:               "on",
	}
	for _, f := range failures {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			url := w.url
			if f.url != nil {
				url = f.url(t)
			}
			key := w.apiKey(alice)
			kept := w.token(alice, work)
			if f.fault != nil {
				w.breakWith(f.fault(t))
			}
			var wg sync.WaitGroup
			for address, settings := range allowed {
				for _, setting := range []string{"unset", "on", "off", "nonsense"} {
					for _, contextID := range []string{"", work} {
						for _, cached := range []bool{true, false} {
							wg.Go(func() {
								c := fallBackCase{address, setting, contextID, cached}
								want := "error"
								switch {
								case cached:
									want = UserBearer
								case !f.connected && contextID == "" && strings.Contains(settings, setting):
									want = UserAPIKey
								}
								w.checkFallBack(t, c, url, key, kept, want)
							})
						}
					}
				}
			}
			wg.Wait()
		})
	}
}

type fallBackCase struct {
	address   config.Address
	setting   string // of DTZ_API_KEY_FALLBACK
	contextID string // that is wanted
	cached    bool   // an earlier token that is still valid, but due for renewal
}

func (w *world) checkFallBack(t *testing.T, c fallBackCase, url string, key, kept secret.String, want string) {
	env := []string{"DTZ_API_KEY=" + key.Reveal(), "DTZ_IDENTITY_URL=" + url, "DTZ_REGISTRIES=127.0.0.1:5000", "DTZ_CONTEXT_ID=" + c.contextID}
	if c.setting != "unset" {
		env = append(env, "DTZ_API_KEY_FALLBACK="+c.setting)
	}
	s, dir := w.process(env...), t.TempDir()
	s.CacheDir = func() string { return dir }
	if c.cached {
		cache, err := store.NewKeyCache(dir, key, url, c.contextID)
		if err == nil {
			err = cache.Save(store.Token{Context: work, Access: kept, Received: w.Now().Add(-58 * time.Minute), Lifetime: time.Hour})
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
	cred, err := s.Credential(w.ctx(), Request{Address: c.address})
	switch {
	case want == "error":
		if e := outcomeOf(err); e != Unreachable && e != Refused {
			t.Errorf("%+v: %+v, %v, want an error", c, cred, err)
		} else if strings.Contains(err.Error(), key.Reveal()) {
			t.Errorf("%+v: the error quotes the key", c)
		}
	case err != nil:
		t.Errorf("%+v: %v, want %s", c, err, want)
	case cred.Username != want, want == UserAPIKey && cred.Secret != key, want == UserBearer && cred.Secret != kept:
		t.Errorf("%+v: the answer is %s, want %s", c, cred.Username, want)
	case cred.Expires.IsZero() != (want == UserAPIKey):
		t.Errorf("%+v: %s ends at %v", c, want, cred.Expires)
	case len(cred.Notes) != 1 || strings.Contains(cred.Notes[0], key.Reveal()):
		t.Errorf("%+v: notes = %q, want one, without the key", c, cred.Notes)
	}
}

func TestFallBackOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.breakWith(away)
	key := w.apiKey(alice)
	path := w.write("key", key.Reveal()+"\n", 0o600)

	cred, err := w.get(registry, "DTZ_API_KEY_FILE="+path)
	if err != nil || cred.Secret != key || cred.Source != FromAPIKeyFile {
		t.Errorf("a key's file: %+v, %v", cred, err)
	}
	wantNotes(t, cred, "the API key itself is handed out, not a token: identity service out of reach: dial tcp 127.0.0.1:1: connect: connection refused")

	w.bind(registry, func(b *config.Binding) { b.Identity, b.APIKeyFile = w.url, path })
	cred, err = w.get(registry)
	if err != nil || cred.Secret != key || cred.Source != FromBoundFile {
		t.Errorf("a configured file: %+v, %v", cred, err)
	}
	_, err = w.process("DTZ_API_KEY="+key.Reveal()).Credential(w.ctx(), Request{Address: registry, TokenOnly: true})
	wantError(t, err, Unreachable, "cr.dtz.rocks: identity service out of reach: dial tcp 127.0.0.1:1: connect: connection refused; "+
		`run "docker-credential-dtz doctor"`)

	w.bind(registry, func(b *config.Binding) { b.Context = home })
	if cred, err = w.get(registry); outcomeOf(err) != Unreachable {
		t.Errorf("a configured file, for a context: %+v, %v, want an error", cred, err)
	}

	// A login's key is never handed out.
	w.breakWith(works)
	w = newWorld(t)
	w.loginKeep(registry)
	w.advance(26 * time.Hour)
	w.breakWith(away)
	if cred, err := w.get(registry, "DTZ_API_KEY_FALLBACK=on"); outcomeOf(err) != Unreachable {
		t.Errorf("a kept key: %+v, %v, want an error", cred, err)
	}
}

// Who waited for another's attempt falls back as that one does, and after the
// service has answered a little, nobody does.
func TestFallBackOfManyProcesses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.apiKey(alice)
	env := []string{"DTZ_API_KEY=" + key.Reveal()}
	w.breakWith(away)
	creds, errs := w.getAtOnce(16, env)
	for i, cred := range creds {
		if errs[i] != nil || cred.Secret != key {
			t.Errorf("process %d: %+v, %v, want the key", i, cred, errs[i])
		}
	}
	w.advance(2 * time.Second)
	w.breakWith(answers(http.StatusUnauthorized, "no"))
	creds, errs = w.getAtOnce(16, env)
	for i, cred := range creds {
		if outcomeOf(errs[i]) != Refused {
			t.Errorf("process %d: %+v, %v, want a refusal", i, cred, errs[i])
		}
	}
}
