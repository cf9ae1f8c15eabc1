package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// A password, API key and token go through every command, failures included.
// They may appear in the answers of get and token and nowhere else: no other
// output, no file in the open, no command line.
func TestSecretsStaySecret(t *testing.T) {
	testenv.Need(t, "keychain")
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
	w := &watch{t: t, secrets: map[string]string{
		testPassword: "the password", key: "the API key", token: "the token given",
		"apikey-refusedcanary000000000": "the refused API key", "wrong-canary-password": "the wrong password",
	}}
	stop := w.commandLines()

	const registry = "127.0.0.1:5000"
	store := func(user, secret string) string {
		return fmt.Sprintf(`{"ServerURL":%q,"Username":%q,"Secret":%q}`, registry, user, secret)
	}
	login := []string{"login", "--registry", registry, "--yes", "--username", testUser, "--password-stdin"}
	everything := func() {
		for _, o := range []outcome{
			p.run(testPassword, login...),
			p.run("wrong-canary-password", login...),
			p.run(testPassword, append(login, "--keep")...),
			p.run(testPassword, append(login, "--context", "context-nowhere1")...),
			p.run(key, "login", "--registry", registry, "--yes", "--api-key-stdin"),
			p.run("apikey-refusedcanary000000000", "login", "--registry", registry, "--yes", "--api-key-stdin"),
			p.run(testPassword+"\nmore", login...),
			p.run(store("bearer", token), "store"),
			p.run(store("bearer", token+"x"), "store"),
			p.run(store("apikey", key), "store"),
			p.run(store("apikey", "apikey-refusedcanary000000000"), "store"),
			p.run(store("me", testPassword), "store"),
			p.run(store("apikey", key)[:60], "store"),
			p.run(key, "erase"),
			p.run(key, "get"),
			p.run("", "list"),
			p.run("", "version"),
			p.run("", "status"),
			p.run("", "status", "--output", "json"),
			p.run("", "configure", "--registry", registry),
			p.run("", "token", "--context", "context-nowhere1"),
			p.run("", "context", "list"),
			p.run("", "context", "list", "--output", "json"),
			p.run("", "context", "use", "context-def12345", "--registry", registry),
			p.run("", "context", "use", "context-nowhere1"),
			p.run("", "unconfigure"),
		} {
			w.check("output", o.stdout+o.stderr)
		}
		// Only these two may show a token, and nothing else.
		for _, o := range []outcome{p.run(registry, "get"), p.run("", "token"), p.run("", "token", "--header")} {
			w.check("standard error", o.stderr)
			for secret, name := range w.secrets {
				if !strings.HasPrefix(name, "the token") && strings.Contains(o.stdout, secret) {
					t.Errorf("%s is in the answer", name)
				}
			}
			for _, part := range strings.FieldsFunc(o.stdout, func(r rune) bool { return strings.ContainsRune("\"{}: \n,", r) }) {
				if strings.Count(part, ".") == 2 && len(part) > 200 {
					w.add(part, "the token handed out") // from now on it is a secret too
				}
			}
		}
		for _, o := range []outcome{p.run(registry, "erase"), p.run("", "logout"), p.run("", "logout", "--all")} {
			w.check("output", o.stdout+o.stderr)
		}
		w.files(p.home)
	}

	everything()
	p.fault.mustSet("echoes") // what it was sent, as some proxies do
	everything()
	p.fault.mustSet("works")
	p.login("--keep")
	p.server.Close()
	p.moveClock(48 * time.Hour)
	everything()

	// A key of the environment, sealed in a file and refused.
	p2 := newPlace(t)
	key2, err := p2.service.CreateKey("identity-alice123", "", "pipeline")
	if err != nil {
		t.Fatal(err)
	}
	w.add(key2, "the environment's key")
	p2.setenv("DTZ_API_KEY", key2)
	for _, o := range []outcome{p2.run("cr.dtz.rocks", "get"), p2.run("", "token")} {
		if o.code != exitOK {
			t.Errorf("%+v", o)
		}
	}
	w.files(p2.home)
	p2.service.DeleteKey(key2)
	p2.moveClock(48 * time.Hour)
	for _, args := range [][]string{{"get"}, {"token"}, {"status"}, {"status", "-o", "json"}, {"logout"}} {
		o := p2.run("cr.dtz.rocks", args...)
		w.check("output", o.stdout+o.stderr)
	}
	stop()
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

// commandLines watches the command lines of all processes until stopped. The
// helper starts none itself; who watches a machine would see its arguments.
func (w *watch) commandLines() (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			case <-time.After(2 * time.Millisecond):
			}
			lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, path := range lines {
				if data, err := os.ReadFile(path); err == nil {
					w.check(path, string(data))
				}
			}
		}
	}()
	return func() { close(quit); <-done }
}
