// Package faults runs the real helper where things go wrong: against a real
// keychain and an identity service that can be slow, silent, wrong, huge, half
// there, redirecting or gone, and it can stop and kill the helper at any moment.
// It is imported by tests only.
package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// Main runs the tests of a package that uses this one, from its TestMain, and
// returns the exit code. Some of what a [Machine] does is done by the test
// binary run once more in the machine's environment: then that is what it does.
func Main(m *testing.M) int {
	if code, again := runErrand(); again {
		return code
	}
	defer func() {
		if built.dir != "" {
			_ = os.RemoveAll(built.dir)
		}
	}()
	return m.Run()
}

const program = "docker-credential-dtz"

var built struct {
	once sync.Once
	dir  string
	path string
	err  error
}

// Program returns the path of the real helper, built once for the test process:
// without the race detector, so that its moments are those that people have.
// [Main] removes it.
func Program(t testing.TB) string {
	t.Helper()
	built.once.Do(build)
	if built.err != nil {
		t.Fatal("building the helper: ", built.err)
	}
	return built.path
}

func build() {
	if built.dir, built.err = os.MkdirTemp("", "dtz-faults-"); built.err != nil {
		return
	}
	built.path = filepath.Join(built.dir, program)
	if runtime.GOOS == "windows" {
		built.path += ".exe"
	}
	out, err := exec.Command("go", "build", "-o", built.path, "github.com/DownToZero-Cloud/"+program+"/cmd/"+program).CombinedOutput()
	if err != nil {
		built.err = fmt.Errorf("%w\n%s", err, out)
	}
}
