//go:build linux

package faults

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

var keepArgs = []string{"login", "--registry", Registry, "--yes", "--username", User, "--password-stdin", "--keep"}

// An API key that login --keep has made and cannot keep is deleted again.
func TestKeyThatIsNotKeptIsDeleted(t *testing.T) {
	check := func(t *testing.T, s *Service, o Outcome, code int) {
		t.Helper()
		if o.Code != code || s.Calls("/me/identity/apikey") != 1 {
			t.Errorf("exit code %d, want %d; %d keys were made; it says %q", o.Code, code, s.Calls("/me/identity/apikey"), o.Stderr)
		}
		if keys := s.Keys(); len(keys) != 0 {
			t.Errorf("the keys %q are left at the identity service; it says %q", keys, o.Stderr)
		}
	}
	eachDisk(t, func(t *testing.T, s *Service, m *Machine, flags []string, begin, _ func(), said string) {
		begin()
		o := m.Run(Password, append(keepArgs, flags...)...)
		check(t, s, o, 1)
		if !strings.Contains(o.Stderr, said) {
			t.Errorf("it says %q, want %q", o.Stderr, said)
		}
		if flags == nil && m.errand("item") != "" {
			t.Error("the keychain keeps the login")
		}
	})
	t.Run("the keychain ends meanwhile", func(t *testing.T) {
		testenv.Need(t, "keychain")
		t.Parallel()
		env, stop, err := testenv.StartKeychain()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(stop)
		s := NewService(t)
		m := NewMachineWith(t, s, env)
		s.Break(around("/me/identity/apikey", stop, func() {}))
		check(t, s, m.Run(Password, keepArgs...), 1)
	})
	for _, tt := range []struct {
		name, path string
		signal     syscall.Signal
	}{
		{"Ctrl-C while the key is asked for", "/me/identity/apikey", syscall.SIGINT},
		{"Ctrl-C while it is proved", "/auth/apikey", syscall.SIGINT},
		{"the terminal is closed while it is asked for", "/me/identity/apikey", syscall.SIGHUP},
		{"SIGTERM while it is proved", "/auth/apikey", syscall.SIGTERM},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := NewService(t)
			m := NewMachineWith(t, s, nil)
			var p *Process
			started, answered := make(chan struct{}), make(chan struct{})
			s.Break(around(tt.path, func() {
				<-started
				p.signal(tt.signal)
				time.Sleep(300 * time.Millisecond) // it is heard before the answer comes
				if tt.signal == syscall.SIGHUP {
					p.signal(tt.signal) // the first was the shell's, this one is the kernel's
				}
			}, func() { close(answered) }))
			p = m.Start(strings.NewReader(Password), append(keepArgs, "--insecure-storage")...)
			close(started)
			o := p.Wait()
			<-answered
			check(t, s, o, 130)
		})
	}
	t.Run("Ctrl-C while it is saved", func(t *testing.T) {
		t.Parallel()
		s := NewService(t)
		m := NewMachineWith(t, s, nil)
		proved := make(chan struct{})
		s.Break(around("/auth/apikey", func() {}, func() { close(proved) }))
		m.lockBindings() // another process has its turn
		p := m.Start(strings.NewReader(Password), append(keepArgs, "--insecure-storage")...)
		<-proved
		time.Sleep(300 * time.Millisecond)
		p.Interrupt()
		check(t, s, p.Wait(), 130)
	})
}

// Under nohup(1) the login outlives the terminal.
func TestLoginUnderNohup(t *testing.T) {
	t.Parallel()
	s := NewService(t)
	m := NewMachineWith(t, s, nil)
	cmd := exec.Command("nohup", append([]string{Program(t), "--quiet"}, append(keepArgs, "--insecure-storage")...)...)
	started := make(chan struct{})
	s.Break(around("/me/identity/apikey", func() {
		<-started
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Error(err)
		}
		time.Sleep(300 * time.Millisecond) // it would be heard
	}, func() {}))
	cmd.Env, cmd.Dir, cmd.Stdin = m.environ(), m.Home, strings.NewReader(Password)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	close(started)
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, &out)
	}
	if secret, o := m.Get(); secret == "" {
		t.Errorf("get says %q", o.Stderr)
	}
}

// Where the identity service does not say whether it has made a key, the person
// is told what to look for.
func TestKeyThatMayHaveBeenMadeIsNamed(t *testing.T) {
	for _, f := range []Fault{
		HalfOpen, CutOff, HangsUp,
		madeBut(http.StatusBadGateway, "text/html"), madeBut(http.StatusOK, "text/html"),
	} {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			s := NewService(t)
			m := NewMachineWith(t, s, nil)
			s.Break(Fault{Name: f.Name, answer: func(s *Service, w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == identity.BasePath+"/me/identity/apikey" {
					f.answer(s, w, r)
					return
				}
				s.Identity.ServeHTTP(w, r)
			}})
			p := m.Start(strings.NewReader(Password), append(keepArgs, "--insecure-storage")...)
			if f.Name == HalfOpen.Name {
				for s.Calls("/me/identity/apikey") == 0 {
					time.Sleep(5 * time.Millisecond)
				}
				p.Interrupt()
			}
			o := p.Wait()
			if !strings.Contains(o.Stderr, "docker-credential-dtz on ") || !strings.Contains(o.Stderr, "may have made the API key") {
				t.Errorf("exit code %d, it says %q", o.Code, o.Stderr)
			}
			if calls := s.Calls("/me/identity/apikey"); calls != 1 {
				t.Errorf("%d keys were asked for", calls)
			}
		})
	}
}

// madeBut does what it is asked and answers something else, as a gateway does.
func madeBut(status int, contentType string) Fault {
	return Fault{Name: fmt.Sprintf("does it and answers %d with %s", status, contentType), answer: func(s *Service, w http.ResponseWriter, r *http.Request) {
		s.right(r)
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "<h1>Bad Gateway</h1>")
	}}
}

// around works, and does something before and after it has answered a request
// for path, whatever becomes of its sender.
func around(path string, before, after func()) Fault {
	return Fault{Name: "works", answer: func(s *Service, w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if r.URL.Path == identity.BasePath+path {
			before()
			defer after()
		}
		s.Identity.ServeHTTP(w, r)
	}}
}

// lockBindings is another process that changes the bindings until the test ends.
func (m *Machine) lockBindings() {
	m.t.Helper()
	path := m.ConfigPath() + ".lock"
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		m.t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { f.Close() })
}
