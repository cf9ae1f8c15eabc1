//go:build unix

package crash_test

import (
	"bytes"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/crash"
)

// canary is a secret of the process that goes wrong: in its environment, its
// memory and the value of its panic.
const canary = "canary-in-the-coal-mine"

// TestMain makes the test binary a program too that goes wrong in the way that
// its argument says.
func TestMain(m *testing.M) {
	if way, ok := ways[os.Getenv("CRASH")]; ok {
		if os.Getenv("OPEN") == "" {
			fmt.Fprintln(crash.Quietly("program", func() string { return "1.2.3" }), "ready")
		}
		way()
		select {} // until a signal
	}
	os.Exit(m.Run())
}

var ways = map[string]func(){
	"with an error, in main":                 func() { defer crash.Guard(); panic(fmt.Errorf("cannot read %s", canary)) },
	"with text, in a goroutine":              func() { go func() { defer crash.Guard(); panic(canary) }() },
	"with a value of its own":                func() { defer crash.Guard(); panic(struct{ secret string }{canary}) },
	"out of bounds":                          func() { defer crash.Guard(); _ = []string{canary}[len(os.Args)] },
	"in two goroutines":                      func() { go guarded(); go guarded() },
	"in a goroutine of a library":            func() { go func() { panic(errors.New(canary)) }() },
	"in a goroutine of a library, with text": func() { go func() { panic(canary) }() },
	"where nothing can be recovered":         func() { defer crash.Guard(); new(sync.Mutex).Unlock() },
	"in the log of a library":                func() { log.Println(canary); os.Exit(3) },
	"for want of descriptors":                func() { defer crash.Guard(); _, _ = os.Open(os.DevNull); os.Exit(3) },
	"with a child that writes everywhere": func() {
		_ = exec.Command("/bin/sh", "-c", "for fd in 3 4 5 6 7 8 9; do (eval \"echo inherited >&$fd\"); done").Run()
		os.Exit(3)
	},
	"not at all": func() { time.Sleep(time.Hour) },
}

func guarded() { defer crash.Guard(); panic(canary) }

func goWrong(t *testing.T, way string, env ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(env, "CRASH="+way, "SECRET="+canary)
	cmd.Dir = t.TempDir()
	return cmd
}

// However much GOTRACEBACK wants to see: no value of a panic, no argument of a
// function, no register. Of what is guarded, where that was.
func TestPanicsShowNoMemory(t *testing.T) {
	for _, tt := range []struct {
		way   string
		shows []string // nil: nothing
		exit  int
	}{
		{"with an error, in main", []string{"program: internal error: a panic (*errors.errorString)\nhint: please report", "\n  program 1.2.3 (", ".TestMain crash_test.go:"}, 1},
		{"with text, in a goroutine", []string{"a panic (string)"}, 1},
		{"with a value of its own", []string{"a panic (struct { secret string })"}, 1},
		{"out of bounds", []string{"a panic (runtime.boundsError)", "crash_test.go:"}, 1},
		{"in two goroutines", []string{"a panic (string)", "crash_test.guarded crash_test.go:"}, 1},
		{"in a goroutine of a library", nil, 2},
		{"in a goroutine of a library, with text", nil, 2},
		{"where nothing can be recovered", nil, 2},
		{"in the log of a library", nil, 3},
		{"with a child that writes everywhere", nil, 3},
	} {
		for _, level := range []string{"none", "single", "all", "system", "crash"} {
			t.Run(tt.way+", GOTRACEBACK="+level, func(t *testing.T) {
				t.Parallel()
				cmd := goWrong(t, tt.way, "GOTRACEBACK="+level)
				out, _ := cmd.CombinedOutput()
				text, found := strings.CutPrefix(string(out), "ready\n")
				if !found || strings.Contains(text, canary) || strings.Contains(text, "0x") || tt.shows == nil && text != "" || strings.Count(text, "internal error") > 1 {
					t.Errorf("it says %q", out)
				}
				for _, part := range tt.shows {
					if !strings.Contains(text, part) {
						t.Errorf("it says %q, want %q in it", text, part)
					}
				}
				code := cmd.ProcessState.ExitCode()
				if aborts := level == "crash" && tt.exit == 2; aborts && code != -1 || !aborts && code != tt.exit {
					t.Errorf("it ends with %v, want exit code %d", cmd.ProcessState, tt.exit)
				}
			})
		}
	}
}

// Nor where hardly a file can be opened: the runtime itself gives up then. With
// the fewest there is no room for a standard error either.
func TestPanicsShowNoMemoryWithFewDescriptors(t *testing.T) {
	for _, way := range []string{"for want of descriptors", "in a goroutine of a library, with text"} {
		for descriptors := 4; descriptors <= 10; descriptors++ {
			t.Run(fmt.Sprintf("%s, with %d", way, descriptors), func(t *testing.T) {
				t.Parallel()
				cmd := goWrong(t, way, "GOTRACEBACK=all")
				cmd.Args = []string{"sh", "-c", `ulimit -n "$1" && exec "$0"`, cmd.Path, strconv.Itoa(descriptors)}
				cmd.Path = "/bin/sh"
				out, _ := cmd.CombinedOutput()
				if text := string(out); text != "ready\n" && (text != "" || descriptors == 10) {
					t.Errorf("it says %q", text)
				}
			})
		}
	}
}

// Whoever may send signals has the runtime print nothing.
func TestSignalsShowNoMemory(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGILL, syscall.SIGTRAP, syscall.SIGSYS} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			cmd := goWrong(t, "not at all", "GOTRACEBACK=crash")
			stderr := startUntilReady(t, cmd)
			if err := cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			if cmd.ProcessState.Success() || stderr.String() != "ready\n" {
				t.Errorf("%v: it says %q", cmd.ProcessState, stderr)
			}
		})
	}
}

// Other programs that use our packages find out about panics as ever.
func TestGuardWithoutQuietly(t *testing.T) {
	out, _ := goWrong(t, "with text, in a goroutine", "OPEN=1").CombinedOutput()
	if !strings.Contains(string(out), "panic: "+canary) || !strings.Contains(string(out), "goroutine ") {
		t.Errorf("it says %q", out)
	}
}

// startUntilReady starts a program that says ready. What else it says is in
// stderr when it has ended.
func startUntilReady(t *testing.T, cmd *exec.Cmd) (stderr *output) {
	t.Helper()
	stderr = &output{first: make(chan struct{})}
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	select {
	case <-stderr.first:
	case <-time.After(time.Minute):
		t.Fatal("it does not start")
	}
	return stderr
}

// output is what a program writes; first is closed when it has begun to.
type output struct {
	text  bytes.Buffer
	once  sync.Once
	first chan struct{}
}

func (o *output) Write(p []byte) (int, error) {
	defer o.once.Do(func() { close(o.first) })
	return o.text.Write(p)
}

func (o *output) String() string { return o.text.String() }
