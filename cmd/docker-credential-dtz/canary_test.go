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
	everything := func(flags ...string) {
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
		for _, o := range []outcome{run(registry, "erase"), run("", "logout"), run("", "logout", "--all")} {
			w.checkOutput(o.stdout + o.stderr)
		}
		w.files(p.home)
	}

	everything()
	everything("--verbose")
	p.fault.mustSet("echoes") // what it was sent, as some proxies do
	everything("--verbose")
	p.fault.mustSet("works")
	p.login("--keep")
	p.server.Close()
	p.moveClock(48 * time.Hour)
	everything("--verbose")

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
		o := p2.run("cr.dtz.rocks", append(args, "--verbose")...)
		w.checkOutput(o.stdout + o.stderr)
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
			// With the file in the pattern, Glob would list the folder of each process.
			processes, _ := filepath.Glob("/proc/[0-9]*")
			for _, process := range processes {
				path := process + "/cmdline"
				if data, err := os.ReadFile(path); err == nil {
					w.check(path, string(data))
				}
			}
		}
	}()
	return func() { close(quit); <-done }
}
