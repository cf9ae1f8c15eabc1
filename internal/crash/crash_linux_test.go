package crash_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// nobody is who runs programs that must not be root's.
const nobody = 65534

// asNobody has cmd run as a user without privileges, which the one of the tests
// may be already.
func asNobody(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	cmd.Dir = "/"
}

// forNobody is a copy of the program that everybody may run.
func forNobody(t *testing.T, program string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "dtz-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	data, err := os.ReadFile(program)
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	path := filepath.Join(dir, filepath.Base(program))
	if err == nil {
		err = os.WriteFile(path, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Another process of the same user reads neither memory nor environment, nor
// what files are open. Of a process that is as Go's are it can.
func TestNobodyElseLooksIn(t *testing.T) {
	for _, open := range []bool{true, false} {
		t.Run(fmt.Sprintf("open is %t", open), func(t *testing.T) {
			cmd := goWrong(t, "not at all")
			cmd.Path = forNobody(t, cmd.Path)
			if open {
				cmd.Args = []string{"sleep", "600"}
				cmd.Path = "/bin/sleep"
			}
			asNobody(t, cmd)
			if open {
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
			} else {
				startUntilReady(t, cmd)
			}
			for _, name := range []string{"environ", "mem", "maps", "auxv", "fd/0"} {
				path := fmt.Sprintf("/proc/%d/%s", cmd.Process.Pid, name)
				look := exec.CommandContext(t.Context(), "head", "-c1", path)
				if name == "mem" { // its first page is not there
					look = exec.CommandContext(t.Context(), "sh", "-c", "exec <"+path)
				}
				asNobody(t, look)
				out, err := look.CombinedOutput()
				if allowed := err == nil; allowed != open {
					t.Errorf("reading %s: %v, %q", path, err, out)
				} else if !open && !strings.Contains(string(out), "ermission denied") {
					t.Errorf("reading %s: %q", path, out)
				}
			}
		})
	}
}

// A process that is brought down leaves no core file, where others do.
func TestNoCoreFile(t *testing.T) {
	if pattern, _ := os.ReadFile("/proc/sys/kernel/core_pattern"); strings.HasPrefix(string(pattern), "|") || strings.HasPrefix(string(pattern), "/") {
		t.Skipf("core files go to %s here", pattern)
	}
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &before); err != nil {
		t.Fatal(err)
	}
	limit := unix.Rlimit{Cur: before.Max, Max: before.Max}
	if before.Max == 0 {
		limit = unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &limit); errors.Is(err, unix.EPERM) {
		t.Skip("nobody may have core files here")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Setrlimit(unix.RLIMIT_CORE, &before) })
	for _, open := range []bool{true, false} {
		cmd := goWrong(t, "in a goroutine of a library", "GOTRACEBACK=crash")
		if open {
			cmd.Env = append(cmd.Env, "OPEN=1")
		}
		_, _ = cmd.CombinedOutput()
		files, err := os.ReadDir(cmd.Dir)
		if err != nil {
			t.Fatal(err)
		}
		status := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if !status.Signaled() || status.CoreDump() != open || (len(files) > 0) != open {
			t.Errorf("open is %t: %v, and in its folder are %v", open, cmd.ProcessState, files)
		}
	}
}

// Not for who starts it either: a shell's ulimit -c counts no more.
func TestCoreLimit(t *testing.T) {
	cmd := goWrong(t, "not at all")
	startUntilReady(t, cmd)
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if rest, found := strings.CutPrefix(line, "Max core file size"); found {
			if fields := strings.Fields(rest); fields[0] != "0" || fields[1] != "0" {
				t.Errorf("the limits are %q, want none", fields)
			}
			return
		}
	}
	t.Errorf("no limit of core files in %q", limits)
}
