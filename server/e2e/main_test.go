// Package e2e tests both programs as people run them: built, started, and
// talked to by Docker and the other container clients.
package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// bin is the folder with the programs.
var bin string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if bin, err = os.MkdirTemp("", "dtz-e2e-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(bin)
	// The helper is built in its own module, with the dependencies that
	// people get.
	for _, p := range []struct{ dir, pkg string }{
		{"../..", "./cmd/docker-credential-dtz"},
		{"..", "./cmd/dtz-registry"},
		{"..", "github.com/google/go-containerregistry/cmd/crane"},
	} {
		if err := build(p.dir, p.pkg); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	// Tests wait for tokens to end more than they use processors. The command
	// line, which is not read yet, can say otherwise.
	if err := flag.Set("test.parallel", "4"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { stopEngine() }()
	return m.Run()
}

// build puts a program into bin, with the race detector where the tests have
// it: a race that it finds ends the program with a status that fails the test.
func build(dir, pkg string) error {
	flags := []string{"-tags", "noclouds"}
	if testenv.Absent("race") == nil {
		flags = append(flags, "-race")
	}
	return goBuild(dir, bin, pkg, flags...)
}

// goBuild puts a program, from the module in dir, into the folder to.
func goBuild(dir, to, pkg string, flags ...string) error {
	args := append([]string{"-C", dir, "build", "-o", to}, flags...)
	if out, err := exec.Command("go", append(args, pkg)...).CombinedOutput(); err != nil {
		return fmt.Errorf("building %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// stopEngine ends the engine that dockerHost started.
var stopEngine = func() {}

// dockerHost is a Docker engine for all tests. Their registries are apart, and
// so are the names of their images.
func dockerHost(t *testing.T) string {
	t.Helper()
	testenv.Need(t, "docker")
	host, err := startEngine()
	if err != nil {
		t.Fatal(err)
	}
	return host
}

var startEngine = sync.OnceValues(func() (string, error) {
	host, stop, err := testenv.StartDocker()
	if err == nil {
		stopEngine = stop
	}
	return host, err
})

func program(name string) string { return filepath.Join(bin, name) }
