package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestRequiredPartsAreHere(t *testing.T) {
	list, err := required()
	if err != nil {
		t.Fatal(err)
	}
	Need(t, list...)
}

// recorder is a test whose end is looked at, not suffered.
type recorder struct {
	testing.TB
	skipped, failed string
}

func (*recorder) Helper() {}

func (r *recorder) Skipf(format string, a ...any)  { r.skipped = fmt.Sprintf(format, a...) }
func (r *recorder) Fatal(a ...any)                 { r.failed = fmt.Sprint(a...) }
func (r *recorder) Fatalf(format string, a ...any) { r.failed = fmt.Sprintf(format, a...) }

func TestNeed(t *testing.T) {
	for _, tt := range []struct {
		name    string
		absent  bool
		require string
		want    string // skip, fail or run
	}{
		{name: "here, not required", want: "run"},
		{name: "here and required", require: "skopeo", want: "run"},
		{name: "absent, nothing required", absent: true, want: "skip"},
		{name: "absent, another one required", absent: true, require: "race", want: "skip"},
		{name: "absent and required", absent: true, require: "skopeo", want: "fail"},
		{name: "absent and required among others", absent: true, require: "race, skopeo", want: "fail"},
		{name: "a name that means nothing", require: "skope", want: "fail"},
		{name: "an empty name", require: "skopeo,", want: "run"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := onLinux(); err != nil {
				t.Skip(err)
			}
			bin := t.TempDir()
			if !tt.absent {
				if err := os.WriteFile(filepath.Join(bin, "skopeo"), nil, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("PATH", bin)
			t.Setenv("DTZ_TEST_REQUIRE", tt.require)
			var r recorder
			Need(&r, "skopeo")
			got := "run"
			switch {
			case r.failed != "":
				got = "fail"
			case r.skipped != "":
				got = "skip"
			}
			if got != tt.want {
				t.Errorf("with DTZ_TEST_REQUIRE=%q the test would %s (%s%s), want it to %s", tt.require, got, r.skipped, r.failed, tt.want)
			}
		})
	}
}

func TestStopEndsTheChild(t *testing.T) {
	if err := onLinux("sleep"); err != nil {
		t.Skip(err)
	}
	child := exec.Command("sleep", "600")
	stop, err := Start(child)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	stop()
	if err := child.Process.Signal(syscall.Signal(0)); err == nil {
		t.Errorf("process %d is still there", child.Process.Pid)
	}
}

func TestStartNamesAProgramThatIsNotThere(t *testing.T) {
	_, err := Start(exec.Command(filepath.Join(t.TempDir(), "nothing")))
	if err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("Start = %v, want an error that names the program", err)
	}
}
