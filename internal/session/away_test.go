package session

import (
	"net/http"
	"testing"
	"time"
)

// The ways in which an identity service is out of reach, and what is said of it.
var outOfReach = []struct {
	name  string
	fault fault
	calls int // that arrive in one renewal
	says  string
}{
	{"refuses connections", away, 0, "identity service out of reach: dial tcp 127.0.0.1:1: connect: connection refused"},
	{"hangs up", hangsUp, 3, "identity service out of reach: EOF"},
	{"answers 500", answers(http.StatusInternalServerError, "oh no"), 3, "identity service out of reach: it answered 500 Internal Server Error: oh no"},
}

func TestServiceOutOfReachWhileATokenIsAging(t *testing.T) {
	t.Parallel()
	for _, tt := range outOfReach {
		t.Run("service "+tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.login(registry)
			w.advance(2 * time.Hour)
			old := w.current(nil)
			w.breakWith(tt.fault)
			for _, step := range []struct {
				later time.Duration
				calls int
			}{
				{0, tt.calls},
				{0, 0},
				{59 * time.Second, 0}, // at rest for a minute
				{time.Second, tt.calls},
				{30 * time.Second, 0},
			} {
				w.advance(step.later)
				before := w.exchanges()
				cred := w.mustGet(registry, work)
				wantNotes(t, cred)
				if cred.Secret != old {
					t.Error("answered another token than the old one")
				}
				// A slow machine has no time for every retry.
				if got := w.exchanges() - before; got > step.calls || got == 0 && step.calls > 0 {
					t.Errorf("%v later: %d calls, want %d", step.later, got, step.calls)
				}
			}
			w.breakWith(works)
			w.advance(29 * time.Second)
			if w.mustGet(registry, work).Secret != old {
				t.Error("renewed before the minute of rest was over")
			}
			renewed := false
			for range 5 { // on a slow machine two seconds may not do
				w.advance(time.Minute)
				renewed = renewed || w.mustGet(registry, work).Secret != old
			}
			if !renewed {
				t.Error("not renewed once the service was back")
			}
		})
	}
}

func TestSilentServiceTakesTwoSecondsFromAnAgingToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry)
	w.advance(2 * time.Hour)
	w.breakWith(silent)
	began := time.Now()
	cred := w.mustGet(registry, work) // which may take a minute
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
	wantNotes(t, cred)
	before := w.exchanges()
	w.mustGet(registry, work)
	if got := w.exchanges() - before; got != 0 {
		t.Errorf("%d calls to a service that was silent a moment ago", got)
	}
}

func TestServiceOutOfReachWhenATokenIsUrgentOrHasEnded(t *testing.T) {
	t.Parallel()
	for _, tt := range outOfReach {
		t.Run("service "+tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.login(registry)
			w.loginAs("kept", w.keptLogin(), other)
			w.breakWith(tt.fault)

			w.advance(24*time.Hour - 5*time.Minute - 2*time.Second)
			for range 2 { // there is no rest: each get tries
				w.advance(time.Second)
				before := w.exchanges()
				wantNotes(t, w.mustGet(registry, work), "the token ends in 5 minutes and was not renewed: "+tt.says)
				if got := w.exchanges() - before; got != tt.calls {
					t.Errorf("%d calls, want %d", got, tt.calls)
				}
			}
			w.advance(2 * time.Hour)
			_, err := w.get(registry)
			wantError(t, err, Expired, `cr.dtz.rocks: login expired 115 minutes ago; run "docker-credential-dtz login --insecure-storage"`)
			_, err = w.get(other)
			wantError(t, err, Unreachable, `127.0.0.1:5000: `+tt.says+`; run "docker-credential-dtz doctor"`)
		})
	}
}

func TestRefusedRenewal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry)
	w.service.RevokeSessions(alice)
	w.advance(2 * time.Hour)
	wantNotes(t, w.mustGet(registry, work), "the token ends in 22 hours and was not renewed: login refused by the identity service: token revoked")
	w.advance(21*time.Hour + 55*time.Minute)
	wantNotes(t, w.mustGet(registry, work), "the token ends in 5 minutes and was not renewed: login refused by the identity service: token revoked")
	w.advance(5 * time.Minute)
	_, err := w.get(registry)
	wantError(t, err, Expired, `cr.dtz.rocks: login expired 0 seconds ago; run "docker-credential-dtz login --insecure-storage"`)
}

func TestRenewalThatCannotBeSaved(t *testing.T) {
	t.Parallel()
	for _, due := range dueRenewals[:3] { // those of a login
		t.Run(due.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			due.prepare(w)
			old := w.current(nil)
			w.full = true
			cred := w.mustGet(registry, work)
			wantNotes(t, cred, "the new token could not be saved: file out of reach: no space left on device")
			if cred.Secret == old {
				t.Error("answered the old token, not the new one")
			}
			if w.current(nil) != old {
				t.Error("the old login is gone")
			}
		})
	}
}

func TestRenewalsThatCannotBeSavedServeAll(t *testing.T) {
	t.Parallel()
	for _, due := range dueRenewals[:3] { // those of a login
		t.Run(due.name, func(t *testing.T) {
			w := newWorld(t)
			due.prepare(w)
			w.full = true
			creds, errs := w.getAtOnce(8, nil)
			for i := range creds {
				if errs[i] != nil {
					t.Errorf("process %d: %v", i, errs[i])
					continue
				}
				w.checkToken(creds[i], work)
			}
		})
	}
}

// A disk that cannot be written, or knows no locks, is no reason for no token.
func TestRenewalWhereNoLockCanBeHad(t *testing.T) {
	t.Parallel()
	for _, due := range dueRenewals {
		t.Run(due.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			env := due.prepare(w)
			old := w.current(env)
			s := w.process(env...)
			s.StateDir = w.write("blocked", "no folder", 0o600)
			s.CacheDir = func() string { return s.StateDir }
			cred, err := s.Credential(w.ctx(), Request{Address: registry})
			if err != nil {
				t.Fatal(err)
			}
			w.checkToken(cred, work)
			if cred.Secret == old {
				t.Error("answered the old token")
			}
			if len(env) > 0 {
				wantNotes(t, cred, "the new token could not be saved: ")
			}
		})
	}
}

// A clock that ran a year ahead, and was set right, must not make what was
// noted by it count for a year.
func TestFailureFromTheFutureIsForgotten(t *testing.T) {
	t.Parallel()
	for _, due := range dueRenewals {
		t.Run(due.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			env := due.prepare(w)
			now := w.Now()
			w.advance(366 * 24 * time.Hour)
			w.breakWith(answers(http.StatusInternalServerError, ""))
			if _, err := w.get(registry, env...); err == nil {
				t.Fatal("no failure")
			}
			w.breakWith(works)
			w.set(now)
			before := w.exchanges()
			wantNotes(t, w.mustGet(registry, work, env...))
			if got := w.exchanges() - before; got != 1 {
				t.Errorf("%d exchanges, want 1", got)
			}
		})
	}
}

func TestClockTurnedBackAfterLogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.login(registry)
	w.advance(-30 * 24 * time.Hour)
	wantNotes(t, w.mustGet(registry, work)) // aging: renewed, and right from then on
	before := w.exchanges()
	w.advance(59 * time.Minute)
	wantNotes(t, w.mustGet(registry, work))
	if got := w.exchanges() - before; got != 0 {
		t.Errorf("%d exchanges of a young token", got)
	}
}

func TestInWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Hour:                    "0 seconds",
		0:                             "0 seconds",
		1500 * time.Millisecond:       "1 second",
		119 * time.Second:             "119 seconds",
		2 * time.Minute:               "2 minutes",
		119*time.Minute + time.Second: "119 minutes",
		47 * time.Hour:                "47 hours",
		49 * time.Hour:                "2 days",
		24*time.Hour - time.Second:    "24 hours", // a day's token, a moment after its receipt
	} {
		if got := InWords(d); got != want {
			t.Errorf("InWords(%v) = %q, want %q", d, got, want)
		}
	}
}
