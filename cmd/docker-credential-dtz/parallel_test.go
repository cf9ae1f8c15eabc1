package main

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// docker compose pull starts one helper for each image. When a renewal is due,
// one of them makes it for all.
func TestManyProcessesRenewOnce(t *testing.T) {
	testenv.Need(t, "keychain")
	const processes = 32
	for _, tt := range []struct {
		name     string
		keep     bool          // log in with --keep
		since    time.Duration // the last renewal
		sabotage func(*place)
		slow     bool   // the answer, so that all have started when it comes, however busy the machine is
		path     string // of the one call
		// what each of them answers
		stdout string
		code   int
	}{
		{
			name: "it works", since: 8 * time.Hour, sabotage: func(*place) {},
			path: "/token/refresh", stdout: `"Username":"bearer"`,
		},
		{
			name: "it is refused shortly before the end", since: 24*time.Hour - 3*time.Minute, slow: true,
			sabotage: func(p *place) { p.service.RevokeSessions("identity-alice123") },
			path:     "/token/refresh", stdout: `"Username":"bearer"`,
		},
		{
			name: "the key is refused and nothing is left", keep: true, since: 100 * time.Hour, slow: true,
			sabotage: func(p *place) { p.fault.mustSet("answers", "401") },
			path:     "/auth/apikey", stdout: "the API key of this login was refused by the identity service", code: exitFailure,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlace(t)
			p.setenv("DTZ_TIMEOUT", "45s") // 32 processes on a small machine, with the race detector in each
			if tt.keep {
				p.login("--keep")
			} else {
				p.login()
			}
			p.moveClock(tt.since)
			if tt.slow {
				p.fault.slow(3 * time.Second)
			}
			tt.sabotage(p)
			before := p.calls(tt.path)

			outcomes := make([]outcome, processes)
			var wg sync.WaitGroup
			for i := range outcomes {
				wg.Go(func() { outcomes[i] = p.run("127.0.0.1:5000", "get") })
			}
			wg.Wait()
			for i, o := range outcomes {
				if o.code != tt.code || !strings.Contains(o.stdout, tt.stdout) {
					t.Errorf("process %d: exit code %d, want %d; it said %q", i, o.code, tt.code, o.stderr)
				}
			}
			if calls := p.calls(tt.path) - before; calls != 1 {
				t.Errorf("%d calls to %s, want 1", calls, tt.path)
			}
		})
	}
}

// Two registries of one login, each in its own context, pulled from at the same
// time when both renewals are due.
func TestManyProcessesOfTwoContexts(t *testing.T) {
	testenv.Need(t, "keychain")
	p := newPlace(t)
	p.setenv("DTZ_TIMEOUT", "45s") // as above
	p.login("--keep", "--registry", "cr.dtz.rocks")
	contexts := map[string]string{"cr.dtz.rocks:3214": "context-abc12345", "cr.dtz.rocks:3215": "context-def12345"}
	for address, contextID := range contexts {
		if o := p.run("", "context", "use", contextID, "--registry", address, "--no-configure"); o.code != exitOK {
			t.Fatalf("context use: %+v", o)
		}
	}
	p.moveClock(100 * time.Hour) // with a token that still serves, a busy machine may have them all give up
	before := p.calls("/auth/apikey")
	var wg sync.WaitGroup
	for range 16 {
		for address, contextID := range contexts {
			wg.Go(func() {
				o := p.run(address, "get")
				var answer struct{ Secret string }
				if err := json.Unmarshal([]byte(o.stdout), &answer); err != nil || o.stderr != "" {
					t.Errorf("%s: exit code %d, %v; it said %q", address, o.code, err, o.stderr)
					return
				}
				claims, err := oauth.ParseClaims(answer.Secret)
				if err != nil || claims.Context != contextID {
					t.Errorf("%s: a token for %s, %v, want %s", address, claims.Context, err, contextID)
				}
			})
		}
	}
	wg.Wait()
	if calls := p.calls("/auth/apikey") - before; calls != len(contexts) {
		t.Errorf("%d renewals, want one for each context", calls)
	}
}
