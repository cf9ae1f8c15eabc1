//go:build linux

package faults

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// A crash kind is something at rest and what changes it. The nth change is a
// run of the helper that is killed.
type crashKind struct {
	name     string
	keychain bool
	setUp    func(*crashBench)
	// due makes the next change write something; nil: it does anyway.
	due  func(*crashBench)
	args func(n int) []string
	// stdin of it.
	stdin string
	// dir is where it writes.
	dir func(*Machine) string
	// state is what is at rest. It fails the test unless that is whole.
	state func(*crashBench) string
	// mayBe reports whether the nth change, if it came to its end, may have made
	// after of before.
	mayBe func(b *crashBench, n int, before, after string) bool
	// renews says that the next get is itself such a change, if the one that was
	// killed has not come to its end.
	renews bool
}

// crashBench is where one kind is tried.
type crashBench struct {
	*Machine
	t       *testing.T
	service *Service
	answers *answers
	writes  *writes
	want    map[int]string // states that changes in turn lead to
	bound   map[int]string // and bindings
}

var crashKinds = []crashKind{
	{
		name: "keychain record", keychain: true, renews: true, args: getArgs, stdin: Registry,
		setUp: func(b *crashBench) { b.Login() },
		due:   nearEnd, dir: keyringsDir, state: tokensState, mayBe: renewed,
	},
	{
		name: "overflow file", keychain: true, renews: true, args: getArgs, stdin: Registry,
		setUp: loginFat,
		due:   nearEnd, dir: loginsDir, state: tokensState, mayBe: renewed,
	},
	{
		name: "file store", renews: true, args: getArgs, stdin: Registry,
		setUp: func(b *crashBench) { b.Login("--insecure-storage") },
		due:   nearEnd, dir: loginsDir, state: tokensState, mayBe: renewed,
	},
	{
		name: "API-key cache", renews: true, args: getArgs, stdin: Registry,
		setUp: func(b *crashBench) {
			key, err := b.service.Identity.CreateKey(Subject, Context, "pipeline")
			if err != nil {
				b.t.Fatal(err)
			}
			b.Setenv("DTZ_API_KEY", key)
			b.Setenv("DTZ_REGISTRIES", Registry)
			b.mustGet()
		},
		due: nearEnd, dir: func(m *Machine) string { return filepath.Join(m.StateDir(), "apikeys") },
		state: tokensState, mayBe: renewed,
	},
	{
		name: "a login over a login", keychain: true,
		setUp: func(b *crashBench) { b.Login() },
		args: func(int) []string {
			return []string{"login", "--registry", Registry, "--yes", "--username", User, "--password-stdin"}
		}, stdin: Password,
		dir: keyringsDir, state: tokensState, mayBe: renewed,
	},
	{
		name: "bindings", setUp: func(b *crashBench) { b.Login("--insecure-storage"); b.learn(bindingArgs, bindingsState) },
		args: bindingArgs,
		dir:  func(m *Machine) string { return filepath.Dir(m.ConfigPath()) }, state: bindingsState, mayBe: learned,
	},
	{
		name: "Docker's config.json", setUp: func(b *crashBench) {
			b.Login("--insecure-storage")
			text := `{"HttpHeaders": {"X-Team": "a"}, "auths": {"ghcr.io": {"auth": "` + strings.Repeat("b3RoZXJz", 500) + `"}},` + "\n\n  \"zzz\" : [1,2 , 3] , \"credHelpers\":{\"gcr.io\":\"gcloud\"}}"
			if err := os.WriteFile(b.DockerConfig(), []byte(text), 0o640); err != nil {
				b.t.Fatal(err)
			}
			b.learn(dockerArgs, dockerState)
		},
		args: dockerArgs,
		dir:  func(m *Machine) string { return filepath.Dir(m.DockerConfig()) }, state: dockerState, mayBe: learned,
	},
}

func getArgs(int) []string { return []string{"get"} }

func bindingArgs(n int) []string {
	return []string{"context", "use", []string{Context, Context2}[n%2], "--registry", Registry, "--no-configure"}
}

func dockerArgs(n int) []string {
	args := []string{"unconfigure", "--registry", "127.0.0.1:6000"}
	if n%2 == 1 {
		args[0] = "configure"
		args = append(args, "--yes")
	}
	return args
}

// nearEnd makes all tokens, also those that are older by now, end in minutes: a
// renewal is then given the whole of DTZ_TIMEOUT, however busy the machine is.
func nearEnd(b *crashBench) { b.errand("set-age", almostADay.String()) }

const almostADay = 24*time.Hour - 4*time.Minute

func keyringsDir(m *Machine) string { return filepath.Join(m.env["XDG_RUNTIME_DIR"], "keyrings") }

func loginsDir(m *Machine) string { return filepath.Join(m.StateDir(), "logins") }

// loginFat makes a login with one token for each of three registries, together
// too large for an item.
func loginFat(b *crashBench) {
	for i, contextID := range FatContexts {
		registry := fmt.Sprintf("127.0.0.1:500%d", i)
		if i == 0 {
			o := b.Run(Password, "login", "--registry", registry, "--yes", "--username", FatUser, "--password-stdin")
			if o.Code != 0 {
				b.t.Fatal(o.Stderr)
			}
			continue
		}
		b.must("configure", "--registry", registry, "--yes")
		b.must("context", "use", contextID, "--registry", registry)
		if o := b.Run(registry, "get"); o.Secret() == "" {
			b.t.Fatal(o.Stderr)
		}
	}
	if sealed, _ := filepath.Glob(filepath.Join(loginsDir(b.Machine), "*.sealed")); len(sealed) != 1 {
		b.t.Fatalf("the login is in the sealed files %q, want one", sealed)
	}
}

func (b *crashBench) must(args ...string) {
	b.t.Helper()
	if o := b.Run("", args...); o.Code != 0 {
		b.t.Fatalf("%q: exit code %d\n%s%s", args, o.Code, o.Stdout, o.Stderr)
	}
}

func (b *crashBench) mustGet() {
	b.t.Helper()
	if secret, o := b.Get(); secret == "" {
		b.t.Fatalf("get says %q", o.Stderr)
	}
}

// learn finds out what undisturbed changes lead to.
func (b *crashBench) learn(args func(n int) []string, state func(*crashBench) string) {
	b.t.Helper()
	for _, n := range []int{0, 1, 0, 1} {
		b.must(args(n)...)
		now := state(b)
		if was, known := b.want[n]; known && was != now {
			b.t.Fatalf("%q leads to\n%s\nand another time to\n%s", args(n), was, now)
		}
		b.want[n], b.bound[n] = now, bindingsState(b)
	}
	if b.want[0] == b.want[1] {
		b.t.Fatalf("%q changes nothing", args(1))
	}
}

func learned(b *crashBench, n int, _, after string) bool { return after == b.want[n%2] }

// jsonFile is what a file holds, which has to be JSON.
func (b *crashBench) jsonFile(path string) string {
	b.t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		b.t.Fatal(err)
	}
	if !json.Valid(data) {
		b.t.Errorf("%s holds %d bytes that are not JSON: %.100q", path, len(data), data)
	}
	return string(data)
}

func bindingsState(b *crashBench) string { return b.jsonFile(b.ConfigPath()) }

func dockerState(b *crashBench) string {
	info, err := os.Stat(b.DockerConfig())
	if err != nil {
		b.t.Fatal(err)
	}
	return info.Mode().String() + "\n" + b.jsonFile(b.DockerConfig())
}

// tokensState is one line for each kept token.
func tokensState(b *crashBench) string {
	kept := b.tokens()
	var lines []string
	for _, contextID := range slices.Sorted(maps.Keys(kept)) {
		lines = append(lines, contextID+" "+kept[contextID])
	}
	return strings.Join(lines, "\n")
}

// renewed: after holds the same contexts as before, each with the token that it
// had or one that the service has answered since.
func renewed(b *crashBench, _ int, before, after string) bool {
	was, is := strings.Split(before, "\n"), strings.Split(after, "\n")
	if len(was) != len(is) {
		return false
	}
	for i, line := range is {
		contextID, token, _ := strings.Cut(line, " ")
		if line != was[i] && (!strings.HasPrefix(was[i], contextID+" ") || !b.answers.has(token)) {
			return false
		}
	}
	return true
}

// Killed at any moment, what is at rest is the old or the new, whole; the next
// get works, and the next save sweeps what is left behind.
func TestKilledAtAnyMoment(t *testing.T) {
	kills := 6
	if *soak {
		kills = *runs
	}
	for _, k := range crashKinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			if k.keychain {
				testenv.Need(t, "keychain")
			}
			k.try(t, kills)
		})
	}
}

func (k crashKind) try(t *testing.T, runs int) {
	b := newCrashBench(t, k)
	rnd := newRand(t)
	fell := map[string]int{}
	whole := b.undisturbed(k)
	began, kills := time.Now(), 0
	for n := 2; n < runs+2; n++ { // even ones and odd ones, as learned
		if k.due != nil {
			k.due(b)
		}
		before := k.state(b)
		b.answers.forget()
		written := b.writes.count()
		p := b.Start(strings.NewReader(k.stdin), k.args(n)...)
		how := b.chooseMoment(rnd, p, whole, written)
		p.Kill()
		kills++
		o := p.Wait()
		after := k.state(b)
		begun := b.writes.count() > written

		switch {
		case o.Code >= 0:
			fell["too late"]++
		case after != before:
			fell["after the commit"]++
		case begun:
			fell["in the writing"]++
		default:
			fell["before"]++
		}
		if after != before && !k.mayBe(b, n, before, after) {
			t.Errorf("run %d, killed %s: neither the old state nor the new:\n%s\nwas\n%s", n, how, after, before)
		}
		b.noEmptyFiles(n)
		if secret, o := b.Get(); secret == "" {
			t.Errorf("run %d, killed %s: the next get says %q", n, how, o.Stderr)
		}
		if !k.renews { // the next save
			if o := b.Run(k.stdin, k.args(n)...); o.Code != 0 {
				t.Errorf("run %d, killed %s: the next one says %q", n, how, o.Stderr)
			}
			if now := k.state(b); !k.mayBe(b, n, before, now) {
				t.Errorf("run %d, killed %s: the next one leads to\n%s", n, how, now)
			}
			if want, learned := b.bound[n%2]; learned && bindingsState(b) != want {
				t.Errorf("run %d, killed %s: the next one leads to the bindings\n%s\nnot\n%s", n, how, bindingsState(b), want)
			}
		}
		if !k.renews || after == before {
			if left := b.Leftovers(); len(left) != 0 {
				t.Errorf("run %d, killed %s: the next save left %q behind", n, how, left)
			}
		}
		if t.Failed() {
			break
		}
	}
	t.Logf("%s: %d kills in %v, undisturbed %v: %v", k.name, kills, time.Since(began).Round(time.Second), whole.Round(time.Millisecond), fell)
}

func newCrashBench(t *testing.T, k crashKind) *crashBench {
	t.Helper()
	s := NewService(t)
	b := &crashBench{t: t, service: s, answers: newAnswers(), want: map[int]string{}, bound: map[int]string{}}
	s.Break(b.answers.noted())
	if k.keychain {
		b.Machine = NewMachine(t, s)
	} else {
		b.Machine = NewMachineWith(t, s, nil)
	}
	b.Setenv("DTZ_TIMEOUT", "30s") // for a busy machine
	k.setUp(b)
	b.writes = watch(t, k.dir(b.Machine))
	return b
}

// noEmptyFiles checks that no file is cut down to nothing, but locks and who has
// them.
func (b *crashBench) noEmptyFiles(run int) {
	b.t.Helper()
	err := filepath.WalkDir(b.Home, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".lock") || strings.HasSuffix(path, ".lock.holder") {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() == 0 && !strings.HasPrefix(d.Name(), ".") && !strings.HasSuffix(d.Name(), ".sealed") {
			b.t.Errorf("run %d: %s is empty", run, path)
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
}
