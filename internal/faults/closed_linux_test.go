package faults

import (
	"bufio"
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
)

// asNobody has cmd run as a user without privileges, which the one of the tests
// may be already.
func asNobody(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Dir = "/"
	}
}

// programOfNobody is the helper with an API key in its environment, run as a
// user without privileges.
func programOfNobody(t *testing.T, s *Service, key string, args ...string) *exec.Cmd {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "dtz-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(Program(t))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, program)
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = []string{"HOME=" + dir, "TMPDIR=" + dir, "DTZ_IDENTITY_URL=" + s.URL(), "DTZ_REGISTRIES=" + Registry, "GOTRACEBACK=all"} // with crash the runtime takes seconds to end
	if key != "" {
		cmd.Env = append(cmd.Env, "DTZ_API_KEY="+key)
	}
	asNobody(t, cmd)
	return cmd
}

// While the helper waits, nobody who runs as the same user reads its memory or
// its environment, and core files are not allowed; a signal has it say nothing.
func TestHelperIsClosed(t *testing.T) {
	t.Parallel()
	s := NewService(t)
	const canary = "apikey-canaryinthecoalmine"
	for _, tt := range []struct {
		signal syscall.Signal
		code   int
	}{{syscall.SIGQUIT, 130}, {syscall.SIGABRT, 2}, {syscall.SIGSEGV, 2}} {
		cmd := programOfNobody(t, s, canary, "get")
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		cmd.Env = append(cmd.Env, "DTZ_TIMEOUT=5m")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pid := cmd.Process.Pid
		waitUntilClosed(t, pid)
		for _, name := range []string{"environ", "mem", "maps"} {
			look := exec.CommandContext(t.Context(), "sh", "-c", fmt.Sprintf("cat </proc/%d/%s", pid, name))
			asNobody(t, look)
			if out, err := look.CombinedOutput(); err == nil || !strings.Contains(string(out), "ermission denied") {
				t.Errorf("reading its %s: %v, %d bytes", name, err, len(out))
			}
		}
		if err := cmd.Process.Signal(tt.signal); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if cmd.ProcessState.ExitCode() != tt.code {
			t.Errorf("%v: %v", tt.signal, cmd.ProcessState)
		}
		if stdout.Len()+stderr.Len() != 0 {
			t.Errorf("%v has it say %q and %q", tt.signal, &stdout, &stderr)
		}
	}
}

// waitUntilClosed waits for the beginning of main.
func waitUntilClosed(t *testing.T, pid int) {
	t.Helper()
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(10 * time.Millisecond) {
		_, core, _ := strings.Cut(readString(fmt.Sprintf("/proc/%d/limits", pid)), "Max core file size")
		if fields := strings.Fields(core); len(fields) > 1 && fields[0] == "0" && fields[1] == "0" {
			return
		}
	}
	t.Fatal("the helper does not begin, or may leave core files")
}

// What is closed to others is not closed to itself: a key comes through a pipe,
// as shells make one of <(command).
func TestKeyThroughAPipeOfAClosedProcess(t *testing.T) {
	t.Parallel()
	s := NewService(t)
	key, err := s.Identity.CreateKey(Subject, "", "pipe")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/dev/fd/3", "/proc/self/fd/3"} {
		cmd := programOfNobody(t, s, "", "get")
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if os.Geteuid() == 0 { // the pipe would be the user's own
			if err := r.Chown(65534, 65534); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := io.WriteString(w, key); err != nil {
			t.Fatal(err)
		}
		w.Close()
		cmd.ExtraFiles, cmd.Stdin = []*os.File{r}, strings.NewReader(Registry)
		cmd.Env = append(cmd.Env, "DTZ_API_KEY_FILE="+path)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), `"bearer"`) {
			t.Errorf("from %s: %v, %q", path, err, strings.ReplaceAll(string(out), key, "<key>"))
		}
	}
}

// A program that the helper starts, the browser, has its variables without the
// secrets among them.
func TestBrowserInheritsNoSecret(t *testing.T) {
	t.Parallel()
	s := NewService(t)
	m := NewMachineWith(t, s, nil)
	opener, seen := filepath.Join(m.Temp, "opener"), filepath.Join(m.Temp, "seen")
	if err := os.WriteFile(opener, []byte("#!/bin/sh\nenv >"+seen+".new && mv "+seen+".new "+seen+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	m.Setenv("BROWSER", opener)
	m.Setenv("MARK", "what else there is")
	canaries := map[string]string{
		"DTZ_API_KEY": "apikey-canaryinthecoalmine", "DTZ_API_KEY_FILE": "/canary", "DTZ_ACCESS_TOKEN": "canary.token.x",
		"DOCKER_AUTH_CONFIG": `{"auths":{"cr.example":{"auth":"Y2FuYXJ5"}}}`,
	}
	for name, value := range canaries {
		m.Setenv(name, value)
	}
	p := m.Start(nil, "login", "--web", "--context", Context, "--registry", Registry, "--yes", "--insecure-storage")
	for began := time.Now(); readString(seen) == "" && time.Since(began) < time.Minute; {
		time.Sleep(20 * time.Millisecond)
	}
	p.Kill()
	o := p.Wait()
	environ := readString(seen)
	if !strings.Contains(environ, "MARK=what else there is\n") {
		t.Fatalf("the browser has seen %q; login says %q", environ, o.Stderr)
	}
	for name, value := range canaries {
		if strings.Contains(environ, name) || strings.Contains(environ, value) {
			t.Errorf("the browser has seen %s", name)
		}
	}
}

// proxy is a proxy that notes what it can read, and leads every tunnel to one
// server.
func proxy(t *testing.T, server string) (address string, read func() string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	var mu sync.Mutex
	var seen strings.Builder
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				client := bufio.NewReader(conn)
				for line := ""; line != "\r\n"; {
					var err error
					line, err = client.ReadString('\n')
					mu.Lock()
					seen.WriteString(line)
					mu.Unlock()
					if err != nil {
						return
					}
				}
				to, err := net.Dial("tcp", server)
				if err != nil {
					return
				}
				defer to.Close()
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
				go func() { _, _ = io.Copy(to, client) }()
				_, _ = io.Copy(conn, to)
			}()
		}
	}()
	return l.Addr().String(), func() string {
		mu.Lock()
		defer mu.Unlock()
		return seen.String()
	}
}

// A proxy learns the host's name and nothing else, and what goes over http,
// which is on this machine only, never comes by it. Nobody can ask for the keys
// of the connection either.
func TestProxySeesNoCredential(t *testing.T) {
	t.Parallel()
	s := NewService(t)
	key, err := s.Identity.CreateKey(Subject, "", "proxy")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(s.Identity)
	t.Cleanup(server.Close)
	at, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		base  string
		tells string // the beginning of what the proxy reads; empty: nothing
		works bool
	}{
		{"https://example.com" + identity.BasePath, "CONNECT example.com:443 HTTP/1.1\r\n", true}, // httptest's certificate is for it
		{s.URL(), "", true},
		{"http://127.0.0.2:" + at.Port() + identity.BasePath, "", false},
		{"http://[::1]:" + at.Port() + identity.BasePath, "", false},
	} {
		address, read := proxy(t, server.Listener.Addr().String())
		m := NewMachineWith(t, s, nil)
		for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"} {
			m.Setenv(name, "http://"+address)
		}
		roots, keys := filepath.Join(m.Temp, "roots.pem"), filepath.Join(m.Temp, "keys")
		if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		m.Setenv("SSL_CERT_FILE", roots)
		m.Setenv("SSLKEYLOGFILE", keys)
		m.Setenv("DTZ_API_KEY", key)
		m.Setenv("DTZ_IDENTITY_URL", tt.base)
		m.Setenv("DTZ_REGISTRIES", Registry)
		m.Setenv("DTZ_API_KEY_FALLBACK", "off")
		m.Setenv("DTZ_TIMEOUT", "30s")
		secret, o := m.Get()
		if works := secret != ""; works != tt.works {
			t.Errorf("%s: get says %q", tt.base, o.Stderr)
		}
		c := NewCanaries(t)
		c.Add(key, "the API key")
		c.Check("what the proxy reads", read())
		if got := read(); (got == "") != (tt.tells == "") || !strings.HasPrefix(got, tt.tells) || strings.Contains(got, "uthorization") {
			t.Errorf("%s: the proxy reads %q, want %q", tt.base, got, tt.tells)
		}
		if _, err := os.Stat(keys); err == nil {
			t.Errorf("%s: SSLKEYLOGFILE was written", tt.base)
		}
	}
}
