package main

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

var update = flag.Bool("update", false, "write the outputs that scripts expect")

// TestMain makes the test binary the program too, as scripts run it, and gives
// the tests one real keychain.
func TestMain(m *testing.M) {
	testscript.Main(withKeychain{m}, map[string]func(){
		program: func() {
			os.Exit(run(untilSignal(), os.Args[1:], testSystem()))
		},
		"panicking": func() { os.Exit(run(untilSignal(), os.Args[1:], panickingSystem())) },
		// What the program opens a browser with on Linux, and who sits before it.
		"xdg-open": openBrowserWindow,
		"visitor":  func() { visitLoginPage(os.Args[1]) },
	})
}

// testSystem is the process's own, with a clock that scripts can move and the
// keychain limits of other platforms.
func testSystem() system {
	sys := system{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, lookup: os.LookupEnv, now: time.Now}
	if path := os.Getenv("DTZ_TEST_CLOCK"); path != "" {
		sys.now = func() time.Time { return time.Now().Add(readOffset(path)) }
	}
	sys.itemCap, _ = strconv.Atoi(os.Getenv("DTZ_TEST_ITEM_CAP"))
	return sys
}

func readOffset(path string) time.Duration {
	text, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	offset, err := time.ParseDuration(string(text))
	if err != nil {
		panic(err)
	}
	return offset
}

// withKeychain runs the tests with a keychain, where this machine has one.
type withKeychain struct{ m *testing.M }

func (w withKeychain) Run() int {
	if testenv.Absent("keychain") == nil {
		env, stop, err := testenv.StartKeychain()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer stop()
		keychainEnv = env
		for name, value := range env {
			os.Setenv(name, value)
		}
	}
	return w.m.Run()
}

var keychainEnv map[string]string

// Who may log in at the identity service of a test.
const (
	testUser     = "alice@example.com"
	testPassword = "correct horse battery staple"
	// manyRoles has so many that a token of hers is over what Windows keeps as
	// one item.
	manyRoles = "wendy@example.com"
)

// world is what a script plays in: an identity service with a clock that it
// shares with the program, and ways to break things.
type world struct {
	service *identity.Service
	server  *httptest.Server
	fault   *fault
	clock   string // file with the offset of the clock from real time

	registries *registries
	// live is a registry that takes the service's tokens; of scripts only.
	live *gate
}

func newWorld(t testing.TB, dir string) *world {
	t.Helper()
	w := &world{clock: filepath.Join(dir, "clock"), fault: &fault{faulty: map[string]int{}}}
	if err := os.WriteFile(w.clock, []byte("0s"), 0o600); err != nil {
		t.Fatal(err)
	}
	service, err := identity.New(identity.Config{
		Now: w.now, Key: signingKey(),
		Users: []identity.User{{
			Name: testUser, Password: testPassword, Subject: "identity-alice123", Email: testUser,
			Contexts: []string{"context-abc12345", "context-def12345"},
			Roles:    []string{"https://dtz.rocks/containerregistry/admin/{context_id}"},
		}, {
			Name: "bob@example.com", Password: testPassword, Subject: "identity-bob12345",
			Contexts: []string{"context-bob12345"},
		}, {
			Name: "carol@example.com", Password: testPassword, Subject: "identity-carol123",
			Contexts: []string{"context-carol123", "context-team1234"},
			Roles:    []string{"https://dtz.rocks/containerregistry/admin/context-team1234"},
		}, {
			Name: manyRoles, Password: testPassword, Subject: "identity-wendy123",
			Contexts: []string{"context-wendy123"},
			Roles:    slices.Repeat([]string{"https://dtz.rocks/containerregistry/admin/{context_id}"}, 30),
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.service = service
	w.registries = newRegistries(t, dir)
	w.server = httptest.NewServer(w.fault.around(service))
	t.Cleanup(w.server.Close)
	return w
}

// signingKey is shared, because making one is slow.
var signingKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func (w *world) now() time.Time { return time.Now().Add(readOffset(w.clock)) }

// url is what DTZ_IDENTITY_URL takes.
func (w *world) url() string { return w.server.URL + identity.BasePath }

// calls counts what has been asked at a path of the API, answered well or not.
func (w *world) calls(path string) int {
	return w.service.Calls(path) + w.fault.calls(identity.BasePath+path)
}

// raceOptions keep a program that was built with the race detector from
// sleeping for a second when it ends (https://go.dev/doc/articles/race_detector):
// it is run a thousand times here.
const raceOptions = "atexit_sleep_ms=0"

func TestScripts(t *testing.T) {
	testenv.Need(t, "keychain")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			w := newWorld(env.T().(testing.TB), env.WorkDir)
			key, err := w.service.CreateKey("identity-alice123", "", "pipeline")
			if err != nil {
				return err
			}
			env.Values[worldKey{}] = w
			w.live = w.newGate(env.T().(testing.TB), httptest.NewServer)
			self, err := exec.LookPath(program)
			if err != nil {
				return err
			}
			home := filepath.Join(env.WorkDir, "home")
			docker := filepath.Join(home, ".docker")
			if err := os.MkdirAll(docker, 0o700); err != nil {
				return err
			}
			for name, value := range keychainEnv {
				env.Setenv(name, value)
			}
			for name, value := range map[string]string{
				"HOME": home, "TMPDIR": filepath.Join(env.WorkDir, ".tmp"),
				"DTZ_IDENTITY_URL": w.url(), "DTZ_TEST_CLOCK": w.clock,
				"IDENTITY": w.url(), "IDENTITY_HOST": w.server.Listener.Addr().String(), "REGISTRY": "127.0.0.1:5000", "LIVE_REGISTRY": w.live.address,
				"PROGRAM_DIR": filepath.Dir(self), "GORACE": raceOptions,
				"USERNAME": testUser, "APIKEY": key,
			} {
				env.Setenv(name, value)
			}
			for name, value := range w.registries.env() {
				env.Setenv(name, value)
			}
			for name, content := range map[string]string{
				"password": testPassword + "\n", "apikey": key + "\n",
				"address": "127.0.0.1:5000", "platform": "cr.dtz.rocks",
			} {
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), []byte(content), 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"asked":      cmdAsked,
			"clock":      cmdClock,
			"registries": cmdRegistries,
			"calls":      cmdCalls,
			"identity":   cmdIdentity,
			"registry":   cmdRegistry,
			"token":      cmdToken,
			"same":       cmdSame,
			"mode":       cmdMode,
			"scope":      cmdScope,
			"waitfor":    cmdWaitFor,
		},
	})
}

type worldKey struct{}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

// clock DURATION moves the clock forward by so much.
func cmdClock(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: clock DURATION")
	}
	step, err := time.ParseDuration(args[0])
	ts.Check(err)
	path := worldOf(ts).clock
	ts.Check(os.WriteFile(path, []byte((readOffset(path) + step).String()), 0o600))
}

// calls PATH N checks how many requests the identity service has seen.
func cmdCalls(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: calls PATH N")
	}
	if got := strconv.Itoa(worldOf(ts).calls(args[0])); got != args[1] {
		ts.Fatalf("%s was called %s times, want %s", args[0], got, args[1])
	}
}

// identity WAY makes the identity service behave in another way.
func cmdIdentity(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	if neg || len(args) == 0 {
		ts.Fatalf("usage: identity works | gone | revokes | deletes KEY | breaks PATH [STATUS] | answers STATUS [TYPE BODY]")
	}
	switch args[0] {
	case "gone":
		w.server.Close()
	case "revokes":
		w.service.RevokeSessions("identity-alice123")
	case "deletes":
		w.service.DeleteKey(args[1])
	default:
		ts.Check(w.fault.set(args))
	}
}

// token SUBJECT CONTEXT FILE has the identity service issue a token into a file.
func cmdToken(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: token SUBJECT CONTEXT FILE")
	}
	token, err := worldOf(ts).service.Issue(args[0], args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(token), 0o600))
}

// same FILE FILE compares two files whose content is not to be shown.
func cmdSame(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: same FILE FILE")
	}
	if same := ts.ReadFile(args[0]) == ts.ReadFile(args[1]); same == neg {
		ts.Fatalf("%s and %s: same is %v", args[0], args[1], same)
	}
}

// scope FILE CONTEXT checks for which context the token in a file is: as token,
// token --header or get printed it.
func cmdScope(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: scope FILE CONTEXT")
	}
	text := strings.TrimPrefix(strings.TrimSpace(ts.ReadFile(args[0])), "Authorization: Bearer ")
	var answer struct{ Secret string }
	if json.Unmarshal([]byte(text), &answer) == nil {
		text = answer.Secret
	}
	claims, err := oauth.ParseClaims(text)
	ts.Check(err)
	if claims.Context != args[1] {
		ts.Fatalf("the token in %s is for %s, want %s", args[0], claims.Context, args[1])
	}
}

// mode FILE MODE checks a file's permissions.
func cmdMode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode FILE MODE")
	}
	info, err := os.Lstat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := info.Mode().String(); !strings.EqualFold(got, args[1]) {
		ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
	}
}

// waitfor FILE waits until another program has written a file.
func cmdWaitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: waitfor FILE")
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		_, err := os.Stat(ts.MkAbs(args[0]))
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Check(err)
		}
	}
}
