//go:build linux

package faults

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

const hangLimit = 2 * time.Second // DTZ_TIMEOUT in these tests

// What can hold a keychain up, and the line that get ends with. mend is what the
// next get, which works at once, has to wait for.
var keychainFaults = []struct {
	name string
	// set breaks the keychain of a machine that is logged in.
	set  func(t *testing.T, m *Machine)
	says string
	mend func(t *testing.T, m *Machine)
}{
	{
		"the keyring daemon is stopped",
		func(t *testing.T, m *Machine) { signalDaemon(t, m, "gnome-keyring-d", syscall.SIGSTOP) },
		`keychain out of reach: it did not answer in time .*; unlock it, set DTZ_API_KEY, or run ".* login --insecure-storage .*"`,
		func(t *testing.T, m *Machine) { signalDaemon(t, m, "gnome-keyring-d", syscall.SIGCONT) },
	}, {
		"the bus daemon is stopped",
		func(t *testing.T, m *Machine) { signalDaemon(t, m, "dbus-daemon", syscall.SIGSTOP) },
		`keychain out of reach: it did not answer in time .*; unlock it, set DTZ_API_KEY, or run ".*"`,
		func(t *testing.T, m *Machine) { signalDaemon(t, m, "dbus-daemon", syscall.SIGCONT) },
	}, {
		"the keychain is locked, and there is no display for its prompt",
		func(t *testing.T, m *Machine) { testenv.LockKeychain(t, m.env) },
		`keychain out of reach: it is locked, and there was no way to ask for its password; unlock it, .*`,
		nil,
	}, {
		"the bus's address is stale",
		func(t *testing.T, m *Machine) { m.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+m.Home+"/gone") },
		`keychain out of reach: DBUS_SESSION_BUS_ADDRESS names a session bus that is gone; there is nothing to unlock: .*`,
		nil,
	}, {
		"nobody listens at the bus's TCP address",
		func(t *testing.T, m *Machine) { m.Setenv("DBUS_SESSION_BUS_ADDRESS", "tcp:host=127.0.0.1,port=1") },
		`keychain out of reach: DBUS_SESSION_BUS_ADDRESS names a session bus that is gone; there is nothing to unlock: .*`,
		nil,
	}, {
		"whoever listens at the bus's address never speaks",
		func(t *testing.T, m *Machine) {
			path := filepath.Join(m.env["XDG_RUNTIME_DIR"], "mute")
			l, err := net.Listen("unix", path) // connections wait to be accepted, for ever
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			m.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+path)
		},
		`keychain out of reach: it did not answer in time .*`,
		nil,
	}, {
		"the bus's address is no address",
		func(t *testing.T, m *Machine) { m.Setenv("DBUS_SESSION_BUS_ADDRESS", "nonsense") },
		`keychain out of reach: .*`,
		nil,
	}, {
		"no bus runs, and dbus-launch would start one",
		func(t *testing.T, m *Machine) {
			m.Unsetenv("DBUS_SESSION_BUS_ADDRESS")
			m.Setenv("XDG_RUNTIME_DIR", m.Temp)
		},
		`keychain out of reach: there is no D-Bus session .*; there is nothing to unlock: .*`,
		nil,
	}, {
		"the bus's address has dbus-launch start one",
		func(t *testing.T, m *Machine) {
			m.Setenv("DBUS_SESSION_BUS_ADDRESS", "autolaunch:")
			m.Setenv("XDG_RUNTIME_DIR", m.Temp)
		},
		`keychain out of reach: there is no D-Bus session .*`,
		nil,
	}, {
		"the bus's address has dbus-launch start one for this machine",
		func(t *testing.T, m *Machine) {
			m.Setenv("DBUS_SESSION_BUS_ADDRESS", "autolaunch:scope=user")
			m.Setenv("XDG_RUNTIME_DIR", m.Temp)
		},
		`keychain out of reach: there is no D-Bus session .*`,
		nil,
	}, {
		"a file is where the bus's socket should be",
		func(t *testing.T, m *Machine) {
			m.Unsetenv("DBUS_SESSION_BUS_ADDRESS")
			m.Setenv("XDG_RUNTIME_DIR", m.Temp)
			if err := os.WriteFile(filepath.Join(m.Temp, "bus"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.Remove(filepath.Join(m.Temp, "bus")) })
		},
		`keychain out of reach: there is no D-Bus session .*`,
		nil,
	},
}

func TestKeychainHoldsUpNobody(t *testing.T) {
	testenv.Need(t, "keychain")
	for _, tt := range keychainFaults {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := NewMachine(t, NewService(t))
			m.Setenv("DTZ_TIMEOUT", hangLimit.String())
			launched := standInForDBusLaunch(t, m)
			m.Login()
			whole := maps.Clone(m.env)
			tt.set(t, m)
			m.mustFail(t, tt.says)
			if tt.mend != nil {
				tt.mend(t, m)
			} else {
				m.env = whole
			}
			if secret, o := m.Get(); secret == "" && !strings.Contains(tt.name, "locked") {
				t.Errorf("once it is over, get says %q", o.Stderr)
			}
			if _, err := os.Stat(launched); err == nil {
				t.Error("dbus-launch was started")
			}
			m.mustHaveNoProcess(t)
		})
	}
}

// Where only XDG_RUNTIME_DIR leads to the bus, as under sudo -u or cron with
// systemd, it is found there: go-keyring by itself would start dbus-launch.
func TestBusIsFoundByTheRuntimeFolder(t *testing.T) {
	testenv.Need(t, "keychain")
	t.Parallel()
	m := NewMachine(t, NewService(t))
	launched := standInForDBusLaunch(t, m)
	m.Login()
	for _, address := range []string{"", "autolaunch:"} {
		m.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
		if secret, o := m.Get(); secret == "" {
			t.Errorf("with DBUS_SESSION_BUS_ADDRESS=%q get says %q", address, o.Stderr)
		}
	}
	if _, err := os.Stat(launched); err == nil {
		t.Error("dbus-launch was started")
	}
}

// The verbs and commands that anything unattended calls end in time too,
// whoever is silent: keychain or identity service.
func TestNoCommandHangs(t *testing.T) {
	testenv.Need(t, "keychain")
	for _, command := range []struct {
		args  []string
		limit time.Duration // what bounds it
	}{
		{[]string{"get"}, hangLimit},
		{[]string{"store"}, hangLimit},
		{[]string{"erase"}, hangLimit},
		{[]string{"list"}, hangLimit},
		{[]string{"kubelet"}, hangLimit},
		{[]string{"token", "--registry", Registry}, hangLimit},
		{[]string{"status"}, hangLimit},
		{[]string{"doctor"}, 30 * time.Second}, // 5 s a check, those of several registries side by side
		{[]string{"logout"}, 30 * time.Second}, // 10 s and 10 s for the key; a keychain may ask a person for a minute
	} {
		for _, culprit := range []string{"keychain", "identity service"} {
			if command.args[0] == "logout" && culprit == "keychain" && !*soak {
				continue // a person may have to answer its prompt, and has a minute
			}
			t.Run(command.args[0]+" while the "+culprit+" is silent", func(t *testing.T) {
				t.Parallel()
				s := NewService(t)
				m := NewMachine(t, s)
				m.Setenv("DTZ_TIMEOUT", hangLimit.String())
				m.Login("--keep")
				m.Age(30 * time.Hour)
				limit := command.limit
				if culprit == "keychain" {
					signalDaemon(t, m, "gnome-keyring-d", syscall.SIGSTOP)
					if command.args[0] == "logout" {
						limit = time.Minute
					}
				} else {
					s.Break(Silent)
				}
				p := m.Start(strings.NewReader(inputs[command.args[0]]), command.args...)
				select {
				case <-p.done:
				case <-time.After(limit + scheduling):
					t.Errorf("it did not end within %v", limit+scheduling)
					p.Kill()
				}
				if o := p.Wait(); o.Code == 0 && command.args[0] != "list" && command.args[0] != "erase" {
					t.Errorf("exit code 0; it said %q", o.Stdout)
				}
				m.mustHaveNoProcess(t)
			})
		}
	}
}

var inputs = map[string]string{
	"get": Registry, "erase": Registry,
	"store":   fmt.Sprintf(`{"ServerURL":%q,"Username":"apikey","Secret":"apikey-abc12345abc12345abc12345"}`, Registry),
	"kubelet": fmt.Sprintf(`{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","kind":"CredentialProviderRequest","image":"%s/image"}`, Registry),
}

// A prompt that nobody answers, or that is dismissed, when there is something to
// be kept.
func TestPromptHoldsUpNoDocker(t *testing.T) {
	testenv.Need(t, "keychain")
	for _, tt := range []struct {
		name      string
		dismissed bool
		says      string
	}{
		{"never answered", false, "keychain out of reach: it did not answer in time"},
		{"dismissed", true, "keychain out of reach: it said that it stored the login and did not"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := NewService(t)
			key, err := s.Identity.CreateKey(Subject, "", "test")
			if err != nil {
				t.Fatal(err)
			}
			m := NewMachineWith(t, s, testenv.Prompting(t, tt.dismissed))
			m.Setenv("DTZ_TIMEOUT", hangLimit.String())
			o := m.Run(fmt.Sprintf(`{"ServerURL":%q,"Username":"apikey","Secret":%q}`, Registry, key), "store")
			if o.Code != 1 || o.Took > hangLimit+scheduling || !strings.Contains(o.Stderr, tt.says) || strings.Count(o.Stderr, "\n") != 1 {
				t.Errorf("store: exit code %d after %v, saying %q", o.Code, o.Took, o.Stderr)
			}
			m.mustHaveNoProcess(t)
		})
	}
}

// endless is an input of many bytes and no end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte("a"), len(p))), nil }

func TestInputThatNeverEnds(t *testing.T) {
	testenv.Need(t, "keychain")
	open, _ := io.Pipe()
	for _, tt := range []struct {
		name  string
		verb  string
		stdin io.Reader
		says  string
	}{
		{"get, and nothing comes", "get", open, "standard input did not end in time; whoever writes to it has to close it"},
		{"get, and an address comes without an end", "get", io.MultiReader(strings.NewReader(Registry+"\n"), open), "standard input did not end in time; whoever writes to it has to close it"},
		{"get, and bytes come for ever", "get", endless{}, "standard input is over 65535 bytes"},
		{"store, and nothing comes", "store", open, "standard input did not end in time; whoever writes to it has to close it"},
		{"erase, and bytes come for ever", "erase", endless{}, "standard input is over 65535 bytes"},
		{"kubelet, and nothing comes", "kubelet", open, "standard input did not end in time; whoever writes to it has to close it"},
		{"kubelet, and bytes come for ever", "kubelet", endless{}, "standard input is over 1048576 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := NewMachineWith(t, NewService(t), nil)
			m.Setenv("DTZ_TIMEOUT", hangLimit.String())
			// A pipe of the system, which the helper itself reads: what feeds it here
			// ends with the test.
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			go func() { _, _ = io.Copy(w, tt.stdin) }()
			o := m.Start(r, tt.verb).Wait()
			r.Close()
			if o.Code != 1 || o.Took > hangLimit+scheduling || o.Stderr != program+": "+tt.says+"\n" {
				t.Errorf("exit code %d after %v, saying %q", o.Code, o.Took, o.Stderr)
			}
		})
	}
}

// mustFail makes a get that ends in time and says in one line why.
func (m *Machine) mustFail(t *testing.T, says string) {
	t.Helper()
	secret, o := m.Get()
	if secret != "" || o.Code != 1 {
		t.Errorf("get: exit code %d, answer %t", o.Code, secret != "")
	}
	if o.Took > hangLimit+scheduling {
		t.Errorf("get took %v", o.Took)
	}
	line := regexp.MustCompile(`^` + program + `: ` + regexp.QuoteMeta(Registry) + `: ` + says + `\n$`)
	if !line.MatchString(o.Stderr) {
		t.Errorf("get says %q, want %s", o.Stderr, line)
	}
}

// mustHaveNoProcess checks that nothing that runs was started in the machine's
// environment: its home folder is in it. The keychain's own daemons have another.
func (m *Machine) mustHaveNoProcess(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(scheduling); ; time.Sleep(20 * time.Millisecond) {
		left := processes("HOME="+m.Home, "")
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("processes left behind: %v", left)
			return
		}
	}
}

// signalDaemon stops a daemon of the machine's keychain or lets it go on. A
// daemon that is stopped can still be killed when the test ends.
func signalDaemon(t *testing.T, m *Machine, name string, s syscall.Signal) {
	t.Helper()
	pids := processes("DBUS_SESSION_BUS_ADDRESS="+m.env["DBUS_SESSION_BUS_ADDRESS"], name)
	if len(pids) != 1 {
		t.Fatalf("%d processes are called %s", len(pids), name)
	}
	if err := syscall.Kill(pids[0], s); err != nil {
		t.Fatal(err)
	}
}

// processes are those with a variable in their environment, of that name, or of
// any where it is empty.
func processes(variable, name string) (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		environ, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil || !bytes.Contains(append([]byte{0}, environ...), []byte("\x00"+variable+"\x00")) {
			continue
		}
		comm, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil || name != "" && strings.TrimSpace(string(comm)) != name {
			continue
		}
		var pid int
		if _, err := fmt.Sscan(filepath.Base(dir), &pid); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// standInForDBusLaunch puts a dbus-launch before any other on the machine's PATH
// and returns the file that it leaves when it is started.
func standInForDBusLaunch(t *testing.T, m *Machine) (trace string) {
	t.Helper()
	dir := t.TempDir()
	trace = filepath.Join(dir, "started")
	script := "#!/bin/sh\ntouch " + trace + "\nexec sleep 60\n"
	if err := os.WriteFile(filepath.Join(dir, "dbus-launch"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	m.Setenv("PATH", dir+":"+m.env["PATH"])
	return trace
}
