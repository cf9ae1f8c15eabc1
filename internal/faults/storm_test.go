//go:build unix

package faults

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// renewals are moments at which a renewal is due.
var renewals = []struct {
	name  string
	flags []string
	age   time.Duration
	path  string // of the call that renews
	// hurried: the old token serves if the renewal takes too long.
	hurried bool
	ended   bool // nothing serves but the renewal
}{
	{name: "aging", age: 8 * time.Hour, path: "/token/refresh", hurried: true},
	{name: "urgent", age: 24*time.Hour - 5*time.Minute, path: "/token/refresh"},
	{name: "ended", flags: []string{"--keep"}, age: 100 * time.Hour, path: "/auth/apikey", ended: true},
}

// However many ask at the same time, and however slow the identity service is,
// one renews for all, in each round anew.
func TestManyGetsOneRenewal(t *testing.T) {
	testenv.Need(t, "keychain")
	processes, rounds, flags := 40, 1, []string{"--insecure-storage"} // a keychain would measure how busy this machine is
	if *soak {
		processes, rounds, flags = 200, 3, nil
	}
	var all []time.Duration
	for _, due := range renewals {
		t.Run(due.name, func(t *testing.T) {
			s := NewService(t)
			m := NewMachine(t, s)
			if !*soak {
				m.Setenv("DTZ_TIMEOUT", "1m")
			}
			m.Login(append(flags, due.flags...)...)
			address := filepath.Join(t.TempDir(), "stdin")
			if err := os.WriteFile(address, []byte(Registry), 0o600); err != nil {
				t.Fatal(err)
			}
			for round := range rounds {
				s.Break(Works)
				m.Age(due.age)
				s.Break(Slow(1500 * time.Millisecond))
				before := s.Calls(due.path)
				began := make([]*Process, processes)
				for i := range began {
					// A pipe would have them wait for this process, which they starve.
					stdin, err := os.Open(address)
					if err != nil {
						t.Fatal(err)
					}
					began[i] = m.Start(stdin, "get")
					stdin.Close()
				}
				outcomes := make([]Outcome, processes)
				for i, p := range began {
					outcomes[i] = p.Wait()
				}
				secrets, said, took := map[string]int{}, map[string]int{}, []time.Duration(nil)
				for _, o := range outcomes {
					if o.Code != 0 || o.Secret() == "" {
						t.Errorf("round %d: exit code %d after %v: %s%s", round, o.Code, o.Took, o.Stdout, o.Stderr)
					}
					if secret := o.Secret(); secret != "" {
						secrets[secret]++
					}
					said[o.Stderr]++
					took = append(took, o.Took)
				}
				calls := s.Calls(due.path) - before
				if calls > 1 || calls < 1 && !due.hurried {
					t.Errorf("round %d: %d calls, want 1", round, calls)
				}
				if len(secrets) > 2 || due.ended && len(secrets) > 1 {
					t.Errorf("round %d: %d different tokens", round, len(secrets))
				}
				slices.Sort(took)
				t.Logf("round %d: %d processes, %d calls; median %v, slowest %v", round, processes, calls, took[len(took)/2], took[len(took)-1])
				for line, n := range said {
					if line != "" {
						t.Logf("%d times: %s", n, line)
					}
				}
				all = append(all, took...)
			}
		})
	}
	if len(all) > 0 {
		t.Logf("%d gets, the slowest took %v", len(all), slices.Max(all))
	}
}

// A process that is stopped while it renews holds up no other for long, says who
// asks why it gets no further, and brings nothing back when it goes on.
func TestStoppedWhileItRenews(t *testing.T) {
	testenv.Need(t, "keychain")
	const slack = 10 * time.Second // of a busy machine
	for _, due := range renewals {
		t.Run(due.name, func(t *testing.T) {
			t.Parallel() // they wait most of the time
			s := NewService(t)
			m := NewMachine(t, s)
			m.Setenv("DTZ_TIMEOUT", "30s")
			m.Login(due.flags...)
			old, _ := m.Get()
			m.Age(due.age)
			before := s.Calls(due.path)
			s.Break(Slow(time.Second))
			stopped := m.Start(strings.NewReader(Registry), "get")
			for s.Calls(due.path) == before {
				time.Sleep(time.Millisecond)
			}
			stopped.Stop()
			s.Break(Works)

			secret, o := m.Get()
			if o.Took > 5*time.Second+slack {
				t.Errorf("get took %v", o.Took)
			}
			stuck := fmt.Sprintf("process %d, is busy with this login and shows no sign of life", stopped.Pid)
			switch {
			case due.ended && (secret != "" || !strings.Contains(o.Stderr, stuck)):
				t.Errorf("get says %q, want to be told of process %d", o.Stderr, stopped.Pid)
			case !due.ended && secret != old:
				t.Errorf("the valid token was not handed out: %q", o.Stderr)
			case due.hurried != (o.Stderr == ""):
				t.Errorf("get says %q", o.Stderr)
			}
			var wg sync.WaitGroup
			for _, change := range []struct {
				stdin string
				args  []string
			}{
				{"", []string{"logout"}},
				{Password, loginArgs("alice")},
				{Registry, []string{"erase"}},
			} {
				wg.Go(func() {
					o := m.Run(change.stdin, change.args...)
					if o.Code != 1 || !strings.Contains(o.Stderr, stuck) || o.Took > 5*time.Second+slack {
						t.Errorf("%s: exit code %d after %v: %q", change.args[0], o.Code, o.Took, o.Stderr)
					}
				})
			}
			wg.Wait()

			// Who waits for less gets on once the stopped one does.
			logout := m.Start(nil, "logout")
			time.Sleep(time.Second)
			stopped.Continue()
			if o := logout.Wait(); o.Code != 0 {
				t.Errorf("logout: %+v", o)
			}
			stopped.Wait()
			if secret, _ := m.Get(); secret != "" {
				t.Error("the login came back after logout")
			}
		})
	}
}

// A newer login is not overwritten by a process that was stopped while it renewed
// the one before.
func TestStoppedWhileAnotherLogsIn(t *testing.T) {
	testenv.Need(t, "keychain")
	s := NewService(t)
	m := NewMachine(t, s)
	m.Setenv("DTZ_TIMEOUT", "30s")
	m.Login()
	m.Age(8 * time.Hour)
	s.Break(Slow(300 * time.Millisecond))
	before := s.Calls("/token/refresh")
	stopped := m.Start(strings.NewReader(Registry), "get")
	for s.Calls("/token/refresh") == before {
		time.Sleep(time.Millisecond)
	}
	stopped.Stop()
	s.Break(Works)
	login := m.Start(strings.NewReader(Password), loginArgs("bob")...)
	time.Sleep(time.Second)
	stopped.Continue()
	if o := login.Wait(); o.Code != 0 {
		t.Fatalf("login: %+v", o)
	}
	stopped.Wait()
	if secret, o := m.Get(); subjectOf(secret) != "identity-bob12345" {
		t.Errorf("get answers for %q: %s", subjectOf(secret), o.Stderr)
	}
}

func loginArgs(user string, flags ...string) []string {
	return append([]string{"login", "--registry", Registry, "--yes", "--username", user + "@example.com", "--password-stdin"}, flags...)
}

func subjectOf(secret string) string {
	claims, err := oauth.ParseClaims(secret)
	if err != nil {
		return ""
	}
	return claims.Subject
}

// deed is one process of the storm, in the words of the model.
type deed struct {
	what       string // login, logout, store, erase, get or age
	who        string // the subject of login, store and get; get: "" is not logged in
	start, end time.Time
	failed     bool // what it meant to change may have happened or not
}

func (d deed) before(other deed) bool { return d.end.Before(other.start) }

// ends reports whether d makes an earlier deed e meaningless for who asks after
// both. A login that docker login brought is not logout's.
func (d deed) ends(e deed) bool {
	switch d.what {
	case "erase", "login":
		return !d.failed
	case "logout":
		return !d.failed && e.what == "login"
	}
	return false
}

// explained reports whether a get can have answered as it did: some deed that
// was not over long before gave that answer, and no other took it back between.
func explained(get deed, deeds []deed) bool {
	standing := func(e deed) bool { // e could still hold when get ended
		return !slices.ContainsFunc(deeds, func(d deed) bool { return e.before(d) && d.before(get) && d.ends(e) })
	}
	if get.who != "" {
		return slices.ContainsFunc(deeds, func(e deed) bool {
			return (e.what == "login" || e.what == "store") && e.who == get.who && e.start.Before(get.end) && standing(e)
		})
	}
	// Nobody is logged in: at the beginning, or because somebody ended it and no
	// login has followed.
	loggedInSince := func(e deed) bool {
		return slices.ContainsFunc(deeds, func(d deed) bool {
			return d.what == "login" && !d.failed && e.before(d) && d.before(get)
		})
	}
	beginning := deed{}
	if !loggedInSince(beginning) {
		return true
	}
	return slices.ContainsFunc(deeds, func(e deed) bool {
		return (e.what == "logout" || e.what == "erase") && e.start.Before(get.end) && !loggedInSince(e)
	})
}

// Whatever runs at the same time, what get answers is what one order of it all
// would give: no login is lost, none comes back, none is another's.
func TestStorm(t *testing.T) {
	testenv.Need(t, "keychain")
	for _, place := range []struct {
		name  string
		flags []string
	}{
		{"keychain", nil},
		{"file", []string{"--insecure-storage"}},
	} {
		t.Run(place.name, func(t *testing.T) {
			workers, lasts := 6, 5*time.Second
			if *soak {
				workers, lasts = 20, time.Minute
			}
			random := newRand(t)
			s := NewService(t)
			m := NewMachine(t, s)
			m.Setenv("DTZ_TIMEOUT", "50s")
			if place.flags != nil {
				m.Setenv("DTZ_STORE", "file")
			}
			s.Break(Slow(100 * time.Millisecond)) // so that others come between
			var (
				mu     sync.Mutex
				deeds  []deed
				tokens []string // that get has answered
				counts = map[string]int{}
			)
			subjects := map[string]string{"alice": Subject, "bob": "identity-bob12345"}
			one := func(dice int, pick int) {
				d := deed{start: time.Now()}
				var o Outcome
				switch {
				case dice < 12:
					user := []string{"alice", "bob"}[pick%2]
					d.what, d.who = "login", subjects[user]
					o = m.Run(Password, loginArgs(user, place.flags...)...)
				case dice < 20:
					d.what = "logout"
					o = m.Run("", "logout")
				case dice < 26:
					d.what = "erase"
					o = m.Run(Registry, "erase")
				case dice < 34:
					mu.Lock()
					token := ""
					if len(tokens) > 0 {
						token = tokens[pick%len(tokens)]
					}
					mu.Unlock()
					if token == "" {
						return
					}
					d.what, d.who = "store", subjectOf(token)
					given, _ := json.Marshal(map[string]string{"ServerURL": Registry, "Username": "bearer", "Secret": token})
					o = m.Run(string(given), "store")
				case dice < 50:
					d.what = "age"
					m.tryAge(2 * time.Hour)
				default:
					d.what = "get"
					var secret string
					secret, o = m.Get()
					d.who = subjectOf(secret)
					if o.Code != 0 && strings.TrimSpace(o.Stdout) != "credentials not found in native keychain" {
						t.Errorf("get: exit code %d after %v: %s%s", o.Code, o.Took, o.Stdout, o.Stderr)
						return
					}
				}
				d.end = time.Now()
				if d.what != "get" && o.Code != 0 {
					d.failed = true
					if !strings.Contains(o.Stderr, "not logged in as profile") && d.what != "store" {
						t.Errorf("%s: exit code %d after %v: %s%s", d.what, o.Code, o.Took, o.Stdout, o.Stderr)
					}
				}
				mu.Lock()
				defer mu.Unlock()
				deeds = append(deeds, d)
				counts[d.what]++
				if o.Secret() != "" {
					tokens = append(tokens, o.Secret())
				}
			}
			var wg sync.WaitGroup
			end := time.Now().Add(lasts)
			for range workers {
				dice := make([]int, 10_000)
				for i := range dice {
					dice[i] = random.IntN(1 << 20)
				}
				wg.Go(func() {
					for i := 0; time.Now().Before(end) && i < len(dice); i++ {
						one(dice[i]%100, dice[i]/100)
						for _, path := range []string{m.ConfigPath(), m.DockerConfig()} {
							data, err := os.ReadFile(path)
							if err == nil && !json.Valid(data) {
								t.Errorf("%s is %q", path, data)
							}
						}
					}
				})
			}
			wg.Wait()
			for _, d := range deeds {
				if d.what == "get" && !explained(d, deeds) {
					t.Errorf("get from %v to %v answered for %q, and nothing explains that:\n%s",
						d.start.Format("05.000"), d.end.Format("05.000"), d.who, history(deeds, d))
				}
			}
			t.Logf("%d processes, %d workers: %v", len(deeds), workers, counts)

			// And when all is quiet again, everything works.
			s.Break(Works)
			for _, user := range []string{"alice", "bob"} {
				if o := m.Run(Password, loginArgs(user, place.flags...)...); o.Code != 0 {
					t.Fatalf("login: %+v", o)
				}
				if secret, o := m.Get(); subjectOf(secret) != subjects[user] {
					t.Errorf("get after the login of %s: %q, %s", user, subjectOf(secret), o.Stderr)
				}
				if o := m.Run("", "status"); !strings.Contains(o.Stdout+o.Stderr, user+"@example.com") {
					t.Errorf("status after the login of %s: %+v", user, o)
				}
			}
			if o := m.Run("", "logout", "--all"); o.Code != 0 {
				t.Errorf("logout: %+v", o)
			}
			if secret, _ := m.Get(); secret != "" {
				t.Error("get answers after logout --all")
			}
		})
	}
}

// tryAge is Age where there may be no login.
func (m *Machine) tryAge(d time.Duration) {
	_, _ = m.tryErrand("age", d.String())
}

// history is what may have to do with get, in order.
func history(deeds []deed, get deed) string {
	var near []deed
	for _, d := range deeds {
		if d.what != "get" && d.what != "age" && d.start.Before(get.end) {
			near = append(near, d)
		}
	}
	slices.SortFunc(near, func(a, b deed) int { return a.start.Compare(b.start) })
	var text strings.Builder
	for _, d := range near[max(0, len(near)-12):] {
		fmt.Fprintf(&text, "  %s to %s %s %s, failed %t\n", d.start.Format("05.000"), d.end.Format("05.000"), d.what, d.who, d.failed)
	}
	return text.String()
}
