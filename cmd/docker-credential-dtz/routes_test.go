package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// A verb skips the command line; through it, it must answer the same.
func TestVerbsAnswerTheSameOnBothRoutes(t *testing.T) {
	env := map[string]string{"HOME": t.TempDir()}
	for _, verb := range verbs {
		for _, input := range []string{"", "cr.dtz.rocks", "ghcr.io", "cr.dtz.rocks\nevil.com", "{}", "[", `{"ServerURL":"cr.dtz.rocks","Username":"me","Secret":"x"}`} {
			answer := func(route func(system) int) outcome {
				var stdout, stderr bytes.Buffer
				code := route(system{
					stdin: strings.NewReader(input), stdout: &stdout, stderr: &stderr, now: time.Now,
					lookup: func(name string) (string, bool) { value, set := env[name]; return value, set },
				})
				return outcome{stdout.String(), stderr.String(), code}
			}
			straight := answer(func(sys system) int { return run(t.Context(), []string{verb}, sys) })
			through := answer(func(sys system) int { return sys.serveTerminal(t.Context(), []string{verb}) })
			if straight != through {
				t.Errorf("%s with %q: %+v, but through the command line %+v", verb, input, straight, through)
			}
			if straight.stdout == "" && straight.code != exitOK {
				t.Errorf("%s with %q fails without telling Docker why", verb, input)
			}
		}
	}
}

// For an address that is not ours nothing is touched and nothing is said; for
// one that is, the login answers. The table is that of internal/config.
func TestAddresses(t *testing.T) {
	testenv.Need(t, "keychain")
	t.Parallel()
	p := newPlace(t)
	p.login("--registry", "cr.dtz.rocks")
	table, err := os.ReadFile(filepath.Join("..", "..", "internal", "config", "testdata", "addresses.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	keychain := listenForVisitors(t)
	before := p.service.Calls("/token/refresh") + p.service.Calls("/auth/apikey")
	rows := 0
	for line := range strings.Lines(string(table)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		rows++
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		in, err := strconv.Unquote(fields[0])
		if err != nil {
			t.Fatal(err)
		}
		address := config.Address(fields[1])
		if cutLineBreak(in) == "cr.dtz.rocks" {
			address = "cr.dtz.rocks" // the protocol allows a line break behind it
		}
		if address.IsPlatform() || address == "127.0.0.1:5000" {
			if o := p.run(in, "get"); o.code != exitOK || !strings.Contains(o.stdout, `"Username":"bearer"`) || o.stderr != "" {
				t.Errorf("%s: get of %q: %+v, want a token", fields[2], in, o)
			}
			continue
		}
		stranger := *p
		stranger.env = append(stranger.env[:len(stranger.env):len(stranger.env)], "DBUS_SESSION_BUS_ADDRESS="+keychain.address)
		files := listFiles(t, p.home)
		o := stranger.run(in, "get")
		if now := listFiles(t, p.home); now != files {
			t.Errorf("%s: files before get of %q:\n%safter:\n%s", fields[2], in, files, now)
		}
		want := outcome{stdout: "credentials not found in native keychain\n", code: exitFailure}
		if strings.TrimSpace(in) == "" {
			want.stdout = "no credentials server URL\n"
			o.stderr = "" // Docker never asks for nothing; what it means may be said
		}
		if o != want {
			t.Errorf("%s: get of %q: %+v, want %+v", fields[2], in, o, want)
		}
	}
	if rows < 40 {
		t.Errorf("%d rows in the table", rows)
	}
	if after := p.service.Calls("/token/refresh") + p.service.Calls("/auth/apikey"); after != before {
		t.Errorf("%d calls to the identity service", after-before)
	}
	if n := keychain.visitors(); n != 0 {
		t.Errorf("the keychain was asked %d times for addresses that are not ours", n)
	}
}

// listener counts who comes, and answers nobody.
type listener struct {
	address string
	came    chan struct{}
}

func listenForVisitors(t *testing.T) *listener {
	t.Helper()
	dir, err := os.MkdirTemp("", "bus") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "bus")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	came := make(chan struct{}, 1000)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			came <- struct{}{}
			t.Cleanup(func() { _ = conn.Close() })
		}
	}()
	return &listener{"unix:path=" + path, came}
}

func (l *listener) visitors() int { return len(l.came) }

func listFiles(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.Command("find", dir, "-printf", "%p %s %T@\n").Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// A keychain that accepts a call and never answers: get ends in time and says so.
func TestSilentKeychain(t *testing.T) {
	testenv.Need(t, "keychain")
	t.Parallel()
	p := newPlace(t)
	p.login()
	p.setenv("DBUS_SESSION_BUS_ADDRESS", listenForVisitors(t).address)
	p.setenv("DTZ_TIMEOUT", "2s")
	began := time.Now()
	o := p.run("127.0.0.1:5000", "get")
	if took := time.Since(began); took > 20*time.Second { // generous: the machine may be busy; without a limit it would never end
		t.Errorf("get took %v", took)
	}
	if o.code != exitFailure || !strings.Contains(o.stderr, `127.0.0.1:5000: keychain out of reach: it did not answer in time`) ||
		strings.Count(o.stderr, "\n") != 1 || !strings.Contains(o.stdout, "keychain out of reach") {
		t.Errorf("get = %+v", o)
	}
	if o := p.run("", "status"); o.code != exitStoreAway {
		t.Errorf("status = %+v, want exit code %d", o, exitStoreAway)
	}
}
