//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// TestWindows runs the Windows build, with the Credential Manager for its
// keychain.
func TestWindows(t *testing.T) {
	windows := testenv.StartWindows(t)
	const ours = "github.com/DownToZero-Cloud/docker-credential-dtz/"
	dir := windows.TestBinaries(t, ours+"cmd/"+program, ours+"internal/atomicfile", ours+"internal/config",
		ours+"internal/dockerconfig", ours+"internal/session", ours+"internal/store")

	// What tests of the packages hold on Windows too.
	for _, tt := range []struct{ name, tests string }{
		{"atomicfile", "TestWriteReplacesWhole|TestWriteThatFailsLeavesNothingBehind|TestWriteWhileOthersRead"},
		{"config", "TestPathsOnWindows|TestUpdateKeepsWhatItWrote|TestUpdateThatFailsChangesNothing|TestUpdatesAtOnceLoseNothing|TestDamagedFileIsNamedAndLeftAlone"},
		{"dockerconfig", "TestManyAtOnce|TestTakenBack|TestThereIsNoFile"},
		{"session", "TestWaitingProcessUsesTheRenewalOfAnother"},
		{"store", "TestEveryStoreKeepsLogins|TestLargeLoginLiesSealed|TestFileWithoutItemChangesNothing|TestLoadWhileAnotherSaves|" +
			"TestForeignItemIsNamedNotQuoted|TestSlotIsHeldByOne|TestSlotTellsHowARenewalFailed|TestKeyCacheOpensWithItsKeyOnly"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := windows.Command(t.Context(), filepath.Join(dir, tt.name+".test.exe"), "-test.v", "-test.timeout=2m", "-test.run=^("+tt.tests+")$")
			cmd.Dir = filepath.Join("..", "..", "internal", tt.name) // its testdata
			cmd.Env = append(cmd.Env, testenv.OwnKeychain+"=1")
			said := newOutput(t)
			cmd.Stdout, cmd.Stderr = said.File, said.File
			err := cmd.Run()
			out := said.text()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for name := range strings.SplitSeq(tt.tests, "|") {
				if !strings.Contains(out, "--- PASS: "+name+" (") {
					t.Errorf("%s was not run, or skipped", name)
				}
			}
		})
	}

	// As testscript names it, the test binary is the program.
	exe := filepath.Join(dir, program+".exe")
	if err := os.Rename(filepath.Join(dir, program+".test.exe"), exe); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		test func(*testing.T, *pc)
	}{
		{"a working day", testWorkingDay},
		{"a login over the item's cap", testOverflowOnWindows},
		{"many at once", testManyOnWindows},
		{"killed in the middle", testKilledOnWindows},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &pc{world: newWorld(t, t.TempDir()), t: t, windows: windows, exe: exe, user: windows.User()}
			tt.test(t, p)
			if o := p.run("", "logout", "--all"); o.code != exitOK {
				t.Errorf("logout: %+v", o)
			}
			if left, _ := filepath.Glob(filepath.Join(p.local(), "logins", "*")); len(left) > 0 {
				t.Errorf("logout left %q", left)
			}
			for _, dir := range []string{p.roaming(), p.local(), filepath.Join(p.user, ".docker")} { // for the next one
				if err := os.RemoveAll(dir); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// pc is where the program for Windows runs.
type pc struct {
	*world
	t       *testing.T
	windows *testenv.Windows
	exe     string
	user    string // %USERPROFILE%
}

// roaming and local are our folders in %AppData% and %LocalAppData%.
func (p *pc) roaming() string { return filepath.Join(p.user, "AppData", "Roaming", program) }
func (p *pc) local() string   { return filepath.Join(p.user, "AppData", "Local", program) }

func (p *pc) command(ctx context.Context, stdin string, args ...string) *exec.Cmd {
	cmd := p.windows.Command(ctx, p.exe, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(cmd.Env, "DTZ_IDENTITY_URL="+p.url(), "DTZ_TEST_CLOCK="+p.windows.Path(p.clock),
		"DTZ_TIMEOUT=45s") // so slow is Wine on a small machine
	return cmd
}

func (p *pc) run(stdin string, args ...string) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := p.command(ctx, stdin, args...)
	stdout, stderr := newOutput(p.t), newOutput(p.t)
	cmd.Stdout, cmd.Stderr = stdout.File, stderr.File
	err := cmd.Run()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		p.t.Error(err)
	}
	return outcome{stdout.text(), stderr.text(), cmd.ProcessState.ExitCode()}
}

// output is a file that a program writes to.
type output struct {
	*os.File
	t *testing.T
}

func newOutput(t *testing.T) output {
	f, err := os.CreateTemp(t.TempDir(), "output")
	if err != nil {
		t.Fatal(err)
	}
	return output{f, t}
}

func (o output) text() string {
	defer o.Close()
	text, err := os.ReadFile(o.Name())
	if err != nil {
		o.t.Error(err)
	}
	return string(text)
}

func (p *pc) login(user string) outcome {
	p.t.Helper()
	o := p.run(testPassword+"\r\n", "login", "--registry", "127.0.0.1:5000", "--yes", "--username", user, "--password-stdin")
	if o.code != exitOK {
		p.t.Fatalf("login: %+v", o)
	}
	return o
}

// get returns the token that Docker is given.
func (p *pc) get() string {
	p.t.Helper()
	o := p.run("127.0.0.1:5000", "get")
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal([]byte(o.stdout), &answer); err != nil || o.code != exitOK || answer.Username != "bearer" {
		p.t.Fatalf("get: exit code %d, %v; it said %q", o.code, err, o.stderr)
	}
	return answer.Secret
}

func (p *pc) moveClock(step time.Duration) {
	p.t.Helper()
	if err := os.WriteFile(p.clock, []byte((readOffset(p.clock) + step).String()), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func testWorkingDay(t *testing.T, p *pc) {
	docker := filepath.Join(p.user, ".docker", "config.json")
	if err := os.MkdirAll(filepath.Dir(docker), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(docker, []byte("{\r\n\t\"auths\": {}\r\n}\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if o := p.login(testUser); !strings.Contains(o.stdout+o.stderr, "the Windows Credential Manager, item docker-credential-dtz") {
		t.Errorf("login does not say where the secret lies: %+v", o)
	}
	if got, err := os.ReadFile(docker); err != nil || !regexp.MustCompile(`"127.0.0.1:5000": ?"dtz"`).Match(got) {
		t.Errorf("Docker's config.json is %q, %v", got, err)
	}
	for _, path := range []string{filepath.Join(p.roaming(), "config.json"), filepath.Join(p.local(), "locks")} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}

	morning := p.get()
	if p.get() != morning || p.calls("/token/refresh") != 0 {
		t.Errorf("a fresh token was renewed: %d calls", p.calls("/token/refresh"))
	}
	p.moveClock(8 * time.Hour)
	evening := p.get()
	if evening == morning || p.get() != evening || p.calls("/token/refresh") != 1 {
		t.Errorf("after eight hours: renewed is %v, with %d calls", evening != morning, p.calls("/token/refresh"))
	}

	key, err := p.service.CreateKey("identity-alice123", "", "pipeline")
	if err != nil {
		t.Fatal(err)
	}
	if o := p.run(`{"ServerURL":"127.0.0.1:5001","Username":"apikey","Secret":"`+key+`"}`, "store"); o.code != exitOK {
		t.Fatalf("store: %+v", o)
	}
	if o := p.run("", "list"); o.stdout != `{"127.0.0.1:5000":"bearer","127.0.0.1:5001":"bearer"}`+"\n" {
		t.Errorf("list: %+v", o)
	}
	for range 2 { // as Docker calls it
		if o := p.run("127.0.0.1:5001\r\n", "erase"); o.code != exitOK {
			t.Errorf("erase: %+v", o)
		}
	}
	if o := p.run("127.0.0.1:5001", "get"); o.code != exitFailure || o.stdout != "credentials not found in native keychain\n" {
		t.Errorf("get after erase: %+v", o)
	}
}

func testOverflowOnWindows(t *testing.T, p *pc) {
	sealed := func() []string {
		files, err := filepath.Glob(filepath.Join(p.local(), "logins", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	p.login(manyRoles)
	first := sealed()
	before := p.get()
	p.moveClock(8 * time.Hour)
	after := p.get()
	second := sealed()
	if before == after || p.get() != after {
		t.Error("it was not renewed, or not kept")
	}
	if len(first) != 1 || len(second) != 1 || first[0] == second[0] {
		t.Errorf("sealed files: %q, and after a renewal %q, want one, another one", first, second)
	}
}

func testManyOnWindows(t *testing.T, p *pc) {
	p.login(manyRoles)
	p.moveClock(8 * time.Hour)
	var secrets [6]string
	var wg sync.WaitGroup
	for i := range secrets {
		wg.Go(func() { secrets[i] = p.run("127.0.0.1:5000", "get").stdout })
	}
	wg.Wait()
	for _, s := range secrets {
		if s != secrets[0] || !strings.Contains(s, `"Username":"bearer"`) {
			t.Error("they did not all get the one new token")
		}
	}
	if calls := p.calls("/token/refresh"); calls != 1 {
		t.Errorf("%d renewals, want 1", calls)
	}
}

func testKilledOnWindows(t *testing.T, p *pc) {
	p.login(manyRoles)
	start := time.Now()
	p.get()
	took := time.Since(start)
	const runs = 5
	for i := range runs {
		p.moveClock(8 * time.Hour)
		cmd := p.command(t.Context(), "127.0.0.1:5000", "get")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(took * time.Duration(i) / (runs - 1))
		_ = cmd.Process.Kill() // over already
		_ = cmd.Wait()
		p.get()
	}
	if files, _ := filepath.Glob(filepath.Join(p.local(), "logins", "*")); len(files) != 1 {
		p.moveClock(8 * time.Hour)
		p.get()
		if files, _ := filepath.Glob(filepath.Join(p.local(), "logins", "*")); len(files) != 1 {
			t.Errorf("after a renewal: %q, want the one in use", files)
		}
	}
}
