//go:build linux

package faults

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// refuseVariable names system calls that fail in the program that the test
// binary becomes, with the error as a number: a file system that lacks them.
const refuseVariable = "FAULTS_REFUSED"

func init() {
	what, set := os.LookupEnv(refuseVariable)
	if !set {
		return
	}
	call, as, _ := strings.Cut(what, "=")
	if err := refuse(refusable[call], refusals[as]); err != nil {
		panic(err)
	}
	panic(syscall.Exec(os.Args[1], os.Args[1:], os.Environ()))
}

var refusable = map[string][]uint32{
	"flock":  {unix.SYS_FLOCK},
	"fsync":  {unix.SYS_FSYNC, unix.SYS_FDATASYNC},
	"rename": {unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2},
}

var refusals = map[string]syscall.Errno{"ENOLCK": unix.ENOLCK, "ENOTSUP": unix.ENOTSUP, "EINVAL": unix.EINVAL, "EPERM": unix.EPERM}

// refuse has the system calls fail from now on, in what this thread executes
// too (seccomp(2)).
func refuse(calls []uint32, as syscall.Errno) error {
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}} // seccomp_data.nr
	for i, call := range calls {
		filter = append(filter, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: uint8(len(calls) - i), K: call})
	}
	filter = append(filter,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(as)})
	return install(filter)
}

// A file system that knows no locks or no fsync serves as well as any other but
// for the waiting; one that renames nothing over a file loses nothing.
func TestFileSystemThatLacksSomething(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		refused string
		works   bool
	}{{"flock=ENOLCK", true}, {"flock=ENOTSUP", true}, {"fsync=EINVAL", true}, {"rename=EPERM", false}} {
		t.Run(tt.refused, func(t *testing.T) {
			t.Parallel()
			_, m := newFileMachine(t)
			run := func(stdin string, args ...string) Outcome {
				t.Helper()
				cmd := exec.Command(self, append([]string{Program(t)}, args...)...)
				cmd.Env = append(m.environ(), refuseVariable+"="+tt.refused)
				cmd.Stdin = strings.NewReader(stdin)
				var stdout, stderr strings.Builder
				cmd.Stdout, cmd.Stderr = &stdout, &stderr
				if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
					t.Fatal(err)
				}
				return Outcome{Code: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}
			}
			login := []string{"login", "--registry", Registry, "--yes", "--username", User, "--password-stdin", "--insecure-storage"}
			first := run(Password, login...)
			if !tt.works {
				if first.Code != 1 || !strings.Contains(first.Stderr, m.StateDir()) || !strings.Contains(first.Stderr, "operation not permitted") {
					t.Errorf("login ends with %d and says %q", first.Code, first.Stderr)
				}
				if left := m.Leftovers(); len(left) != 0 {
					t.Errorf("left behind: %q", left)
				}
				m.Login("--insecure-storage")
			} else if first.Code != 0 {
				t.Fatalf("login: %s", first.Stderr)
			}
			m.Age(2 * time.Hour)
			if o := run(Registry, "get"); o.Secret() == "" || tt.works && o.Stderr != "" {
				t.Errorf("get says %q", o.Stderr)
			}
			if secret, o := m.Get(); secret == "" || o.Stderr != "" {
				t.Errorf("without the fault, get says %q", o.Stderr)
			}
			if strings.HasPrefix(tt.refused, "flock") {
				if o := run("", "doctor"); !strings.Contains(o.Stdout, "knows no locks") {
					t.Errorf("doctor does not say that there are no locks:\n%s", o.Stdout)
				}
			}
			if o := run("", "logout"); tt.works && o.Code != 0 || !tt.works && o.Code != 1 {
				t.Errorf("logout ends with %d and says %q", o.Code, o.Stderr)
			}
			if secret, o := m.Get(); tt.works && secret != "" {
				t.Errorf("after logout there is a token; get says %q", o.Stderr)
			}
			if left := m.Leftovers(); len(left) != 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// install puts a filter on this thread.
func install(filter []unix.SockFilter) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
}
