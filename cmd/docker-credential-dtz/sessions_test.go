//go:build linux

package main

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// sessionsFile holds what a person sees at a terminal who uses each command.
// README's tour is taken from it. -update records it anew.
const sessionsFile = "testdata/sessions.txtar"

// A session is played at a terminal: each line that begins with «$ » is run by a
// shell, questions are answered as alice would, and what the terminal then shows
// has to be what stands there. A comment «$ # 48 hours later» moves the clock.
func TestSessions(t *testing.T) {
	testenv.Need(t, "keychain")
	t.Parallel()
	archive, err := txtar.ParseFile(sessionsFile)
	if err != nil {
		t.Fatal(err)
	}
	root, _ := testRoot()
	for _, cmd := range root.Commands() {
		if cmd.GroupID == groupPeople && cmd.Name() != "help" && !strings.Contains(string(txtar.Format(archive)), "\n$ docker-credential-dtz "+cmd.Name()) {
			t.Errorf("no session shows %s", cmd.Name())
		}
	}
	for i, file := range archive.Files {
		t.Run(file.Name, func(t *testing.T) {
			got := newStage(t).play(string(file.Data))
			if got != string(file.Data) && !*update {
				t.Errorf("the terminal shows something else:\n%s", diff.Diff(sessionsFile, file.Data, "now", []byte(got)))
			}
			archive.Files[i].Data = []byte(got)
		})
	}
	if *update {
		if err := os.WriteFile(sessionsFile, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// README shows sessions as they were recorded.
func TestReadmeHasTheSessions(t *testing.T) {
	archive, err := txtar.ParseFile(sessionsFile)
	if err != nil {
		t.Fatal(err)
	}
	path, text := readme(t)
	block := regexp.MustCompile("(?s)(<!-- session: ([a-z]+), [^\n]*-->\n```console\n)(.*?)(```\n<!-- /session -->)")
	if !block.MatchString(text) {
		t.Fatal("README.md has no block for a session")
	}
	want := block.ReplaceAllStringFunc(text, func(found string) string {
		parts := block.FindStringSubmatch(found)
		for _, file := range archive.Files {
			if file.Name == parts[2] {
				return parts[1] + string(file.Data) + parts[4]
			}
		}
		t.Errorf("README.md shows the session %s, which %s does not have", parts[2], sessionsFile)
		return found
	})
	switch {
	case want == text:
	case *update:
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("README.md does not show the sessions of %s; -update writes them", sessionsFile)
	}
}

// stage is alice's machine, where the platform's own names lead to a place.
type stage struct{ *place }

func newStage(t *testing.T) *stage {
	t.Helper()
	p := newPlace(t)
	var gate http.Handler
	p.newGate(t, func(h http.Handler) *httptest.Server {
		gate = h
		return httptest.NewServer(h)
	})
	platform := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host == "identity.dtz.rocks" {
			p.server.Config.Handler.ServeHTTP(w, r)
			return
		}
		gate.ServeHTTP(w, r)
	}))
	cert, authority := certificate(t, "identity.dtz.rocks", "cr.dtz.rocks", "registry.example.com")
	platform.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	platform.StartTLS()
	t.Cleanup(platform.Close)
	proxy := httptest.NewServer(tunnelTo(platform.Listener.Addr().String()))
	t.Cleanup(proxy.Close)

	trusted := filepath.Join(p.home, "..", "authority.pem")
	if err := os.WriteFile(trusted, authority, 0o600); err != nil {
		t.Fatal(err)
	}
	// Nothing else of this machine's: doctor would see it.
	bin := filepath.Join(p.home, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{program, "cut"} {
		file, err := exec.LookPath(name)
		if err == nil {
			err = os.Symlink(file, filepath.Join(bin, name))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, value := range map[string]string{
		"PATH": bin, "HTTPS_PROXY": proxy.URL, "SSL_CERT_FILE": trusted,
		"DTZ_IDENTITY_URL": "", "TERM": "xterm", "LANG": "C.UTF-8",
	} {
		p.setenv(name, value)
	}
	return &stage{p}
}

var later = regexp.MustCompile(`^# ([0-9]+) hours later$`)

// play runs the commands of a session and returns the session as it was.
func (s *stage) play(session string) string {
	s.t.Helper()
	var seen strings.Builder
	for line := range strings.Lines(session) {
		command, typed := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "$ ")
		if !typed {
			continue
		}
		seen.WriteString(line)
		if found := later.FindStringSubmatch(command); found != nil {
			hours, err := time.ParseDuration(found[1] + "h")
			if err != nil {
				s.t.Fatal(err)
			}
			s.moveClock(hours)
			continue
		}
		seen.WriteString(s.nameVariables(onScreen(s.enter(command))))
	}
	return seen.String()
}

// enter runs a command line and returns what the terminal received.
func (s *stage) enter(command string) string {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), "/bin/sh", "-c", command)
	cmd.Dir, cmd.Env = s.home, s.env
	term := startCommandInTerminal(s.t.(*testing.T), cmd)
	ended := make(chan struct{})
	go func() { defer close(ended); term.exitCode() }()
	answered := 0
	for {
		screen := term.screen()
		for _, q := range []struct {
			question, answer string
			echo             bool
		}{
			{"DTZ user name: ", testUser, true},
			{"Password (not shown): ", testPassword, false},
			{"[y/N] ", "y", true},
		} {
			if len(screen) > answered && strings.HasSuffix(screen, q.question) && term.echoes() == q.echo {
				answered = len(screen)
				term.write(q.answer + "\n")
			}
		}
		select {
		case <-ended:
			return term.screen()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

var escape = regexp.MustCompile("\x1b\\[[0-9;?]*[a-zA-Z]")

// onScreen is what is left to see of what a terminal received: without colours,
// lines that were wiped away, and spaces at the end.
func onScreen(received string) string {
	var shown strings.Builder
	for line := range strings.Lines(strings.ReplaceAll(received, "\r\n", "\n")) {
		if i := strings.LastIndex(line, eraseLine); i >= 0 {
			line = line[i+len(eraseLine):]
		}
		shown.WriteString(strings.TrimRight(escape.ReplaceAllString(line, ""), " \n") + "\n")
	}
	return shown.String()
}

// nameVariables puts names in the place of what differs from machine to machine.
func (s *stage) nameVariables(text string) string {
	s.t.Helper()
	host, err := os.Hostname()
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.NewReplacer(s.home, "/home/alice", " on "+host, " on laptop").Replace(text)
}
