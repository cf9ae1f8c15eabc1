package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// A password, API key and token go through every command, failures included.
// They may appear in the answers of get, token and kubelet and nowhere else: no other
// output, no file in the open, no command line.
func TestSecretsStaySecret(t *testing.T) {
	testenv.Need(t, "keychain")
	t.Parallel()
	w := &watch{t: t, secrets: map[string]string{
		testPassword: "the password", "wrong-canary-password": "the wrong password",
		"apikey-refusedcanary000000000": "the refused API key",
	}}
	t.Cleanup(w.commandLines())
	for _, tt := range []struct {
		name    string
		prepare func(*place)
		flags   []string // of every command
	}{
		{"where all is well", func(*place) {}, nil},
		{"where everything is told", func(*place) {}, []string{"--verbose"}},
		{"where the identity service says what it was sent, as some proxies do", func(p *place) { p.fault.mustSet("echoes") }, []string{"--verbose"}},
		{"where the identity service has been gone for days", func(p *place) {
			p.login("--keep")
			p.server.Close()
			p.moveClock(48 * time.Hour)
		}, []string{"--verbose"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			key, err := p.service.CreateKey("identity-alice123", "", "canary")
			if err != nil {
				t.Fatal(err)
			}
			token, err := p.service.Issue("identity-bob12345", "context-bob12345")
			if err != nil {
				t.Fatal(err)
			}
			w.add(key, "the API key")
			w.add(token, "the token given")
			tt.prepare(p)
			w.everything(p, key, token, tt.flags)
		})
	}
	// A key of the environment, sealed in a file and refused.
	t.Run("where a key comes from the environment", func(t *testing.T) {
		t.Parallel()
		p := newPlace(t)
		key, err := p.service.CreateKey("identity-alice123", "", "pipeline")
		if err != nil {
			t.Fatal(err)
		}
		w.add(key, "the environment's key")
		p.setenv("DTZ_API_KEY", key)
		for _, o := range []outcome{p.run("cr.dtz.rocks", "get"), p.run("", "token")} {
			if o.code != exitOK {
				t.Errorf("%+v", o)
			}
		}
		w.files(p.home)
		p.service.DeleteKey(key)
		p.moveClock(48 * time.Hour)
		for _, args := range [][]string{{"get"}, {"token"}, {"status"}, {"status", "-o", "json"}, {"logout"}} {
			o := p.run("cr.dtz.rocks", append(args, "--verbose")...)
			w.checkOutput(o.stdout + o.stderr)
		}
	})
}

// everything is every command, with flags, and what it may fail at.
func (w *watch) everything(p *place, key, token string, flags []string) {
	w.t.Helper()
	const registry = "127.0.0.1:5000"
	store := func(user, secret string) string {
		return fmt.Sprintf(`{"ServerURL":%q,"Username":%q,"Secret":%q}`, registry, user, secret)
	}
	login := []string{"login", "--registry", registry, "--yes", "--username", testUser, "--password-stdin"}
	run := func(stdin string, args ...string) outcome { return p.run(stdin, slices.Concat(args, flags)...) }
	for _, o := range []outcome{
		run(testPassword, login...),
		run("wrong-canary-password", login...),
		run(testPassword, append(login, "--keep")...),
		run(testPassword, append(login, "--context", "context-nowhere1")...),
		run(key, "login", "--registry", registry, "--yes", "--api-key-stdin"),
		run("apikey-refusedcanary000000000", "login", "--registry", registry, "--yes", "--api-key-stdin"),
		run(testPassword+"\nmore", login...),
		run(store("bearer", token), "store"),
		run(store("bearer", token+"x"), "store"),
		run(store("apikey", key), "store"),
		run(store("apikey", "apikey-refusedcanary000000000"), "store"),
		run(store("me", testPassword), "store"),
		run(store("apikey", key)[:60], "store"),
		run(key, "erase"),
		run(key, "get"),
		run("", "list"),
		run("", "version"),
		run("", "status"),
		run("", "status", "--output", "json"),
		run("", "doctor"),
		run("", "doctor", "--output", "json"),
		run("", "configure", "--registry", registry, "--dry-run"),
		run("", "configure", "--registry", registry, "--verbose"),
		run("", "configure", "--podman", "--registry", registry),
		run("", "unconfigure", "--podman"),
		run("", "unconfigure", "--dry-run"),
		run("", "token", "--context", "context-nowhere1"),
		run("", "context", "list"),
		run("", "context", "list", "--output", "json"),
		run("", "context", "use", "context-def12345", "--registry", registry),
		run("", "context", "use", "context-nowhere1"),
		run("", "unconfigure"),
	} {
		w.checkOutput(o.stdout + o.stderr)
	}
	// Only these three may show a token, and nothing else.
	request := fmt.Sprintf(`{"apiVersion":%q,"kind":"CredentialProviderRequest","image":"%s/app","serviceAccountToken":%q}`, kubeletAPI, registry, token)
	refused := run(request[:len(request)-1], "kubelet")
	w.checkOutput(refused.stdout + refused.stderr)
	for _, o := range []outcome{run(registry, "get"), run("", "token"), run("", "token", "--header"), run(request, "kubelet")} {
		w.checkOutput(o.stderr)
		w.checkAnswer(o.stdout)
		for _, part := range strings.FieldsFunc(o.stdout, func(r rune) bool { return strings.ContainsRune("\"{}: \n,", r) }) {
			if strings.Count(part, ".") == 2 && len(part) > 200 {
				w.add(part, "the token handed out") // from now on it is a secret too
			}
		}
	}
	for _, o := range []outcome{run(registry, "erase"), run("", "logout"), run("", "logout", "--all")} {
		w.checkOutput(o.stdout + o.stderr)
	}
	w.files(p.home)
}

// watch looks for secrets where they must not be.
type watch struct {
	t       *testing.T
	mu      sync.Mutex
	secrets map[string]string // and their names
}

func (w *watch) add(secret, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.secrets[secret] = name
}

// checkAnswer looks for all but tokens, in what hands one out.
func (w *watch) checkAnswer(text string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for secret, name := range w.secrets {
		if !strings.HasPrefix(name, "the token") && strings.Contains(text, secret) {
			w.t.Errorf("%s is in the answer", name)
		}
	}
}

func (w *watch) check(where, text string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for secret, name := range w.secrets {
		if strings.Contains(text, secret) {
			w.t.Errorf("%s shows %s", where, name)
		}
	}
}

var looksSecret = regexp.MustCompile(`apikey-[A-Za-z0-9-]{8,}|eyJ[A-Za-z0-9_-]{20,}`)

// checkOutput looks for all that can be a secret too: nobody knows the API keys
// that login --keep has made.
func (w *watch) checkOutput(text string) {
	w.t.Helper()
	w.check("output", text)
	if looksSecret.MatchString(text) {
		w.t.Errorf("output shows an API key or a token: %q", looksSecret.ReplaceAllString(text, "<HERE>"))
	}
}

// files looks into every file, and at its name.
func (w *watch) files(dir string) {
	w.t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		w.check(path, path+string(data))
		return err
	})
	if err != nil {
		w.t.Error(err)
	}
}

// commandLines watches the command lines of all processes that begin from now
// on, until stopped. The helper starts none itself; who watches a machine would
// see its arguments.
func (w *watch) commandLines() (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	// With the file in the pattern, Glob would list the folder of each process.
	const processes = "/proc/[0-9]*"
	before, _ := filepath.Glob(processes)
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			case <-time.After(2 * time.Millisecond):
			}
			now, _ := filepath.Glob(processes)
			for _, process := range now {
				if _, old := slices.BinarySearch(before, process); old {
					continue
				}
				path := process + "/cmdline"
				if data, err := os.ReadFile(path); err == nil {
					w.check(path, string(data))
				}
			}
		}
	}()
	return func() { close(quit); <-done }
}
