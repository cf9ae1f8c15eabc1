package session

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
)

func TestContexts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry, other)
	ids, err := w.process().Contexts(w.ctx(), w.place(""))
	if err != nil || !slices.Equal(ids, []string{work, home}) {
		t.Fatalf("Contexts = %q, %v, want both of alice's", ids, err)
	}
	w.advance(20 * time.Hour) // with a fresh token, since it is there to be had
	before := w.exchanges()
	if _, err := w.process().Contexts(w.ctx(), w.place("")); err != nil || w.exchanges() != before+1 {
		t.Errorf("Contexts = %v after %d exchanges, want 1", err, w.exchanges()-before)
	}
	w.service.RevokeSessions(alice)
	_, err = w.process().Contexts(w.ctx(), w.place(""))
	wantError(t, err, Refused, `the token of this login was refused by the identity service: token revoked; run "docker-credential-dtz login --insecure-storage --registry 127.0.0.1:5000"`)
	w.breakWith(away)
	_, err = w.process().Contexts(w.ctx(), w.place(""))
	wantError(t, err, Unreachable, `identity service out of reach: dial tcp 127.0.0.1:1: connect: connection refused; run "docker-credential-dtz doctor"`)
	_, err = w.process().Contexts(w.ctx(), w.place("nobody"))
	wantError(t, err, NotLoggedIn, `not logged in; run "docker-credential-dtz login --insecure-storage --profile nobody"`)
}

// loses makes the identity service refuse what is of a context, or for it, as
// one does of which the identity has been taken out.
func (w *world) loses(contextID string) {
	w.breakWith(fault{answer: func(rw http.ResponseWriter, r *http.Request) {
		claims, err := oauth.ParseClaims(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		body, _ := io.ReadAll(r.Body)
		if err == nil && platform.SameContext(claims.Context, contextID) || strings.Contains(string(body), contextID) {
			answers(http.StatusForbidden, "not a member").answer(rw, r)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		w.service.ServeHTTP(rw, r)
	}})
}

// Who has lost the default context can still see which there are, and choose
// one of them, as long as another token or the key is good.
func TestDefaultContextThatIsLost(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		login func(*world)
		since time.Duration
	}{
		{"another registry's token, fresh", func(w *world) { w.login(registry, other); w.use(home, other) }, time.Minute},
		{"another registry's token, to be renewed", func(w *world) { w.login(registry, other); w.use(home, other) }, 20 * time.Hour},
		{"a key, which is of another context", func(w *world) { w.loginKeep(registry); w.use(home) }, time.Minute},
		{"a key, and every token has ended", func(w *world) { w.loginKeep(registry); w.use(home) }, 48 * time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			tt.login(w)
			lost := w.stored(w.place("")).Context
			left := map[string]string{work: home, home: work}[lost]
			w.advance(tt.since)
			w.loses(lost)
			ids, err := w.process().Contexts(w.ctx(), w.place(""))
			if err != nil || !slices.Equal(ids, []string{work, home}) {
				t.Errorf("Contexts = %q, %v", ids, err)
			}
			w.use(left)
			w.mustGet(registry, left)
		})
	}
}

// Completion shows ids to a shell: those only that are ids, and without asking
// anybody for them.
func TestKnownContexts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry, other)
	w.use(home, other)
	w.bind(port3214, func(b *config.Binding) { // as somebody wrote it by hand
		*b = config.Binding{Identity: w.url, Profile: config.DefaultProfile, Context: "context-$(reboot)"}
	})
	w.bind(port3215, func(b *config.Binding) {
		*b = config.Binding{Identity: w.url, Profile: config.DefaultProfile, Context: "context-third001"}
	})
	before := w.requests()
	want := []string{home, "context-third001", work}
	if got := w.process().KnownContexts(w.ctx(), w.place("")); !slices.Equal(got, want) {
		t.Errorf("KnownContexts = %q, want %q", got, want)
	}
	w.breakWith(away)
	if got := w.process().KnownContexts(w.ctx(), w.place("nobody")); len(got) != 0 || w.requests() != before {
		t.Errorf("KnownContexts of nobody = %q, after %d requests", got, w.requests()-before)
	}
}

func TestServedBy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry)
	w.loginAs("work", w.passwordLogin("bob"), other)
	w.bind("127.0.0.1:5002", func(b *config.Binding) { *b = config.Binding{Identity: w.url, Profile: "gone"} })
	for _, tt := range []struct {
		name      string
		addresses []config.Address
		profile   string // "": none
		outcome   Outcome
		text      string
	}{
		{"one", []config.Address{other}, "work", "", ""},
		{"a port and one that nobody serves", []config.Address{"ghcr.io", port3214}, config.DefaultProfile, "", ""},
		{"none that anybody serves", []config.Address{"ghcr.io"}, "", "", ""},
		{"none", nil, "", "", ""},
		{"two logins'", []config.Address{registry, other}, "", Misconfigured, "cr.dtz.rocks and 127.0.0.1:5000 are served by two logins; name them one by one, or one login for both with --profile"},
		{"one without its login", []config.Address{"127.0.0.1:5002"}, "", NotLoggedIn, `127.0.0.1:5002: not logged in; run "docker-credential-dtz login --registry 127.0.0.1:5002 --profile gone"`},
	} {
		place, found, err := w.process().ServedBy(tt.addresses)
		if place.Profile != tt.profile && err == nil || found != (tt.profile != "") {
			t.Errorf("%s: ServedBy = %+v, %v, want profile %q", tt.name, place, found, tt.profile)
		}
		if tt.outcome == "" {
			w.must(err)
			continue
		}
		wantError(t, err, tt.outcome, tt.text)
	}
}
