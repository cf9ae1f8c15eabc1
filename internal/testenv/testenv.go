// Package testenv gives tests the real outside world: a Secret Service, a
// Docker engine, an object store, container clients, reverse proxies. It is
// imported by tests only.
//
// A part that this machine lacks skips the tests that need it. DTZ_TEST_REQUIRE,
// a comma-separated list of parts, makes its absence a failure instead, so that
// a machine that is meant to have everything cannot go green on skips.
package testenv

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// parts says for each part that a test can need why it is absent, or nil.
var parts = map[string]func() error{
	"keychain": keychainAbsent,
	"docker":   dockerAbsent,
	"skopeo":   func() error { return onLinux("skopeo") },
	"buildah":  rootOnLinux("buildah"),
	"podman":   rootOnLinux("podman"),
	"nginx":    func() error { return onLinux("nginx") },
	"caddy":    func() error { return onLinux("caddy") },
	"chromium": func() error { return onLinux("chromium") },
	"s3":       s3Absent,
	"curl":     func() error { return onLinux("curl") },
	"jq":       func() error { return onLinux("jq") },
	"bash":     func() error { return onLinux("bash") },
	"race":     raceAbsent,
	"wine":     wineAbsent,
}

// Absent returns why part is not on this machine, or nil if it is. It panics
// if there is no such part.
func Absent(part string) error {
	absent, known := parts[part]
	if !known {
		panic(fmt.Sprintf("testenv: no part is called %q, only %s", part, names()))
	}
	return absent()
}

// Need skips t, in one line, when one of the parts is absent. It fails t when
// DTZ_TEST_REQUIRE names the absent part, or a part that does not exist.
func Need(t testing.TB, part ...string) {
	t.Helper()
	required, err := required()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range part {
		err := Absent(p)
		switch {
		case err == nil:
		case slices.Contains(required, p):
			t.Fatalf("%s is absent, but DTZ_TEST_REQUIRE names it: %v", p, err)
		default:
			t.Skipf("%s is absent: %v", p, err) // scripts/test collects this line
		}
	}
}

// required is what DTZ_TEST_REQUIRE names.
func required() ([]string, error) {
	var list []string
	for name := range strings.SplitSeq(os.Getenv("DTZ_TEST_REQUIRE"), ",") {
		name = strings.TrimSpace(name)
		if name == "" {
			continue
		}
		if _, known := parts[name]; !known {
			return nil, fmt.Errorf("DTZ_TEST_REQUIRE names %q, which is none of %s", name, names())
		}
		list = append(list, name)
	}
	return list, nil
}

func names() string {
	return strings.Join(slices.Sorted(maps.Keys(parts)), ", ")
}

func onLinux(programs ...string) error {
	if runtime.GOOS != "linux" {
		return errors.New("needs Linux")
	}
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			return err
		}
	}
	return nil
}

func rootOnLinux(programs ...string) func() error {
	return func() error {
		if err := onLinux(programs...); err != nil {
			return err
		}
		if os.Geteuid() != 0 {
			return errors.New("needs root")
		}
		return nil
	}
}

func raceAbsent() error {
	if !raceDetector {
		return errors.New("built without -race")
	}
	return nil
}
