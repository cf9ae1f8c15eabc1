package session

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
)

const day = 24 * time.Hour

var (
	// to1970 is how far a clock is behind on a board that has none of its own.
	to1970 = time.Unix(30, 0).Sub(monday)
	// to1969 is what a time zone can make of it.
	to1969 = to1970 - 8*time.Hour
)

// Who logs in how. The times of what the environment's API key was exchanged for
// are kept likewise.
var loginKinds = []struct {
	name string
	make func(w *world) (env []string)
}{
	{"a password", func(w *world) []string { w.login(registry); return nil }},
	{"a kept key", func(w *world) []string { w.loginKeep(registry); return nil }},
	{"a key in the environment", func(w *world) []string {
		env := []string{"DTZ_API_KEY=" + w.apiKey(alice).Reveal(), "DTZ_API_KEY_FALLBACK=off"}
		if _, err := w.get(registry, env...); err != nil {
			w.t.Fatal(err)
		}
		return env
	}},
}

// clockGet is one get: how much later, how far the machine's clock is ahead
// then, what the identity service does, and what comes of it for each kind of
// login: what is handed out, how many calls it took, what is said.
type clockGet struct {
	later time.Duration
	ahead time.Duration
	fault fault
	want  [3]string
}

// all is a result that does not depend on how one is logged in.
func all(want string) [3]string { return [3]string{want, want, want} }

const (
	outOfReachNow = "identity service out of reach: dial tcp 127.0.0.1:1: connect: connection refused"
	notRenewed    = " and was not renewed: " + outOfReachNow + `; run "docker-credential-dtz doctor"`
)

// Tokens live for a day. A clock that is wrong the whole time is not noticed; one
// that is set between receipt and use costs a call, and no login.
var clockFaults = []struct {
	name    string
	atLogin time.Duration // how far the machine's clock is ahead then
	gets    []clockGet
}{
	{"right all the time", 0, []clockGet{
		{10 * time.Minute, 0, works, all("a token, 0 calls")},
		{2 * time.Hour, 0, works, all("a token, 1 call")},
		{23 * time.Hour, 0, works, all("a token, 1 call")},
		{25 * time.Hour, 0, works, [3]string{"login expired 60 minutes ago, 0 calls", "a token, 1 call", "a token, 1 call"}},
	}},
	{"ten minutes ahead all the time", 10 * time.Minute, []clockGet{
		{10 * time.Minute, 10 * time.Minute, works, all("a token, 0 calls")},
		{23 * time.Hour, 10 * time.Minute, works, all("a token, 1 call")},
		{25 * time.Hour, 10 * time.Minute, works, [3]string{"login expired 60 minutes ago, 0 calls", "a token, 1 call", "a token, 1 call"}},
	}},
	{"ten minutes behind all the time", -10 * time.Minute, []clockGet{
		{10 * time.Minute, -10 * time.Minute, works, all("a token, 0 calls")},
		{23 * time.Hour, -10 * time.Minute, works, all("a token, 1 call")},
		{25 * time.Hour, -10 * time.Minute, works, [3]string{"login expired 50 minutes ago, 0 calls", "a token, 1 call", "a token, 1 call"}},
	}},
	{"a day ahead all the time", day, []clockGet{
		{10 * time.Minute, day, works, all("a token, 0 calls")},
		{23 * time.Hour, day, works, all("a token, 1 call")},
		{25 * time.Hour, day, works, [3]string{"login expired 60 minutes ago, 0 calls", "a token, 1 call", "a token, 1 call"}},
	}},
	{"a day behind all the time", -day, []clockGet{
		{10 * time.Minute, -day, works, all("a token, 0 calls")},
		{23 * time.Hour, -day, works, all("a token, 1 call")},
		// It may as well have been a day behind and be right now: the service knows.
		{25 * time.Hour, -day, works, [3]string{"login refused by the identity service: token expired, 1 call", "a token, 1 call", "a token, 1 call"}},
	}},
	{"1970 all the time", to1970, []clockGet{
		{10 * time.Minute, to1970, works, all("a token, 0 calls")},
		{23 * time.Hour, to1970, works, all("a token, 1 call")},
	}},
	{"before 1970 at login, and set right since", to1969, []clockGet{
		{10 * time.Minute, to1969, works, all("a token, 0 calls")},
		{10 * time.Minute, 0, works, all("a token, 1 call")},
	}},
	{"1970 at login, and set right since", to1970, []clockGet{
		{10 * time.Minute, 0, works, all("a token, 1 call")},
	}},
	{"1970 at login, and set right while the service is away", to1970, []clockGet{
		{10 * time.Minute, 0, away, all(outOfReachNow + ", 0 calls")},
		{2 * time.Second, 0, works, all("a token, 1 call")},
	}},
	{"1970 at login, set right, and the token has ended", to1970, []clockGet{
		{25 * time.Hour, 0, works, [3]string{"login expired 60 minutes ago, 0 calls", "a token, 1 call", "a token, 1 call"}},
	}},
	{"a day ahead at login, and set right since", day, []clockGet{
		{10 * time.Minute, 0, works, all("a token, 1 call")},
	}},
	{"a day ahead at login, set right, and used the next day", day, []clockGet{
		{23*time.Hour + 50*time.Minute, 0, works, all("a token, 1 call")},
	}},
	{"a day ahead at login, and set right while the service is away", day, []clockGet{
		{10 * time.Minute, 0, away, all("a token, 0 calls, saying: the token came before this machine's clock was set back by 24 hours" + notRenewed)},
		{0, 0, works, all("a token, 0 calls")}, // at rest for a minute
		{time.Minute, 0, works, all("a token, 1 call")},
	}},
	{"two days ahead at login, set right, and the token has ended", 2 * day, []clockGet{
		{25 * time.Hour, 0, away, all(outOfReachNow + ", 0 calls")},
		{2 * time.Second, 0, works, [3]string{"login refused by the identity service: token expired, 1 call", "a token, 1 call", "a token, 1 call"}},
	}},
	{"a day ahead at login, set right, and the token has ended by the service's word only", day, []clockGet{
		{26 * time.Hour, 0, works, [3]string{
			"a dead token, 1 call, saying: the token may have ended and was not renewed: login refused by the identity service: token expired",
			"a token, 1 call", "a token, 1 call",
		}},
	}},
	{"a day ahead for a while", 0, []clockGet{
		{10 * time.Minute, day, works, [3]string{"login expired 10 minutes ago, 0 calls", "a token, 1 call", "a token, 1 call"}},
		{10 * time.Minute, 0, works, [3]string{"a token, 0 calls", "a token, 1 call", "a token, 1 call"}},
	}},
	{"back to 1970 at each start of the machine", 0, []clockGet{
		{time.Hour, to1970, works, all("a token, 1 call")},
		{time.Hour, 0, works, all("a token, 1 call")},
		{time.Hour, to1970, away, all("a token, 0 calls, saying: the token came before this machine's clock was set back by 20780 days" + notRenewed)},
		{time.Hour, 0, works, all("a token, 1 call")},
	}},
	{"eight hours behind after a pause, as a board that notes the time when it ends", 0, []clockGet{
		{10 * time.Hour, -8 * time.Hour, works, all("a token, 1 call")},
		{20 * time.Hour, 0, works, all("a token, 1 call")},
	}},
	{"ten minutes back between two gets", 0, []clockGet{
		{2 * time.Hour, 0, works, all("a token, 1 call")},
		{time.Minute, -10 * time.Minute, works, all("a token, 1 call")},
		{9 * time.Minute, -10 * time.Minute, works, all("a token, 0 calls")},
	}},
	{"ten minutes on between two gets", 0, []clockGet{
		{2 * time.Hour, 0, works, all("a token, 1 call")},
		{time.Minute, 10 * time.Minute, works, all("a token, 0 calls")},
	}},
	{"ahead when a renewal failed, and set right: the failure does not count until then", 0, []clockGet{
		{2 * time.Hour, 12 * time.Hour, away, all("a token, 0 calls")},
		{time.Second, 0, works, all("a token, 1 call")},
	}},
}

func TestClockIsWrong(t *testing.T) {
	t.Parallel()
	for _, tt := range clockFaults {
		for i, kind := range loginKinds {
			t.Run("a clock that is "+tt.name+", and "+kind.name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.ahead = tt.atLogin
				env := kind.make(w)
				for n, get := range tt.gets {
					w.advance(get.later)
					w.ahead = get.ahead
					w.breakWith(get.fault)
					if got := w.whatCameOf(env); got != get.want[i] {
						t.Errorf("get %d:\n  %s\nwant:\n  %s", n+1, got, get.want[i])
					}
				}
			})
		}
	}
}

// whatCameOf is what a get hands out, after how many calls, and what it says.
func (w *world) whatCameOf(env []string) string {
	before := w.exchanges()
	cred, err := w.get(registry, env...)
	calls := w.exchanges() - before
	text := "a token"
	var e *Error
	switch {
	case errors.As(err, &e):
		text = e.What
	default:
		claims, err := oauth.ParseClaims(cred.Secret.Reveal())
		if err != nil {
			w.t.Error(err)
		}
		if !w.Now().Before(claims.Expires) {
			text = "a dead token"
		}
		if w.here().Add(day + clockStep).Before(cred.Expires) {
			w.t.Errorf("the token is said to be good until %v from now", cred.Expires.Sub(w.here()))
		}
	}
	if calls == 1 {
		text += ", 1 call"
	} else {
		text += fmt.Sprintf(", %d calls", calls)
	}
	if cred != nil {
		for _, note := range cred.Notes {
			text += ", saying: " + note
		}
	}
	return text
}

// Once the clock is right the token in hand has a right receipt, whatever the
// clock was before: the next get is as cheap as any.
func TestClockSetRightHeals(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{to1970, -day, -10 * time.Minute, 10 * time.Minute, day, 10 * 365 * day} {
		for _, kind := range loginKinds {
			w := newWorld(t)
			w.ahead = ahead
			env := kind.make(w)
			w.ahead = 0
			w.advance(2 * time.Hour)
			for i, want := range []string{"a token, 1 call", "a token, 0 calls", "a token, 0 calls"} {
				if got := w.whatCameOf(env); got != want {
					t.Errorf("%v ahead with %s, get %d: %s, want %s", ahead, kind.name, i+1, got, want)
				}
			}
			w.checkToken(w.mustGet(registry, work, env...), work)
		}
	}
}

// What docker login brings revives a login that has ended, though its receipt
// lies in the future and makes it look alive.
func TestClockSetBackLetsDockerLoginReviveALogin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ahead = 3 * day
	w.login(registry)
	w.ahead = 0
	w.advance(25 * time.Hour)
	if _, err := w.process().Keep(w.ctx(), registry, UserBearer, w.token(alice, work), "file"); err != nil {
		t.Fatal(err)
	}
	w.mustGet(registry, work)
}

// Another context's token that was received by a clock far ahead is not
// preferred to the one that is right.
func TestClockSetBackChoosesTheTokenThatIsGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ahead = 3 * day
	w.login(registry)
	w.ahead = 0
	if _, err := w.process().UseContext(w.ctx(), w.place(""), home, []config.Address{other}); err != nil {
		t.Fatal(err)
	}
	w.advance(23 * time.Hour)
	w.mustGet(other, home) // renewed: good for a day more
	w.advance(2 * time.Hour)
	if got := w.whatCameOf(nil); got != "a token, 1 call" {
		t.Errorf("%s; the token of %s has ended, that of %s is good", got, work, home)
	}
}

func TestAccessTokenOfTheEnvironmentAndTheClock(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		later time.Duration
		ahead time.Duration
		want  string
	}{
		{"right", time.Hour, 0, "a token, 0 calls"},
		{"behind by a trifle", 0, -30 * time.Second, "a token, 0 calls"},
		{"a day behind", time.Hour, -day, "a token, 0 calls, saying: this machine's clock is behind by 23 hours or more: DTZ_ACCESS_TOKEN is not issued yet; nobody here can tell whether it is still valid"},
		{"a day behind, and the token has ended", 25 * time.Hour, -2 * day, "a dead token, 0 calls, saying: this machine's clock is behind by 23 hours or more: DTZ_ACCESS_TOKEN is not issued yet; nobody here can tell whether it is still valid"},
		{"a day ahead", time.Hour, day, "not logged in (DTZ_ACCESS_TOKEN expired 60 minutes ago), 0 calls"},
	} {
		w := newWorld(t)
		env := []string{"DTZ_ACCESS_TOKEN=" + w.token(alice, work).Reveal()}
		w.advance(tt.later)
		w.ahead = tt.ahead
		got := w.whatCameOf(env)
		if got != tt.want {
			t.Errorf("a clock that is %s:\n  %s\nwant:\n  %s", tt.name, got, tt.want)
		}
	}
}
