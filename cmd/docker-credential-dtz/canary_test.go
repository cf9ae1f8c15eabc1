package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/faults"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// A password, API key and token go through every command, failures included.
// They may appear in the answers of get, token and kubelet and nowhere else: no other
// output, no file in the open, no command line.
func TestSecretsStaySecret(t *testing.T) {
	testenv.Need(t, "keychain")
	t.Parallel()
	w := faults.NewCanaries(t)
	w.Add(testPassword, "the password")
	w.Add("wrong-canary-password", "the wrong password")
	w.Add("apikey-refusedcanary000000000", "the refused API key")
	t.Cleanup(w.Processes())
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
			w.Add(key, "the API key")
			w.Add(token, "the token given")
			tt.prepare(p)
			everything(w, p, key, token, tt.flags)
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
		w.Add(key, "the environment's key")
		p.setenv("DTZ_API_KEY", key)
		for _, o := range []outcome{p.run("cr.dtz.rocks", "get"), p.run("", "token")} {
			if o.code != exitOK {
				t.Errorf("%+v", o)
			}
		}
		w.Files(p.home)
		p.service.DeleteKey(key)
		p.moveClock(48 * time.Hour)
		for _, args := range [][]string{{"get"}, {"token"}, {"status"}, {"status", "-o", "json"}, {"logout"}} {
			o := p.run("cr.dtz.rocks", append(args, "--verbose")...)
			w.Output(o.stdout + o.stderr)
		}
	})
}

// everything is every command, with flags, and what it may fail at.
func everything(w *faults.Canaries, p *place, key, token string, flags []string) {
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
		w.Output(o.stdout + o.stderr)
	}
	// Only these three may show a token, and nothing else.
	request := fmt.Sprintf(`{"apiVersion":%q,"kind":"CredentialProviderRequest","image":"%s/app","serviceAccountToken":%q}`, kubeletAPI, registry, token)
	refused := run(request[:len(request)-1], "kubelet")
	w.Output(refused.stdout + refused.stderr)
	for _, o := range []outcome{run(registry, "get"), run("", "token"), run("", "token", "--header"), run(request, "kubelet")} {
		w.Output(o.stderr)
		w.Answer(o.stdout)
		for _, part := range strings.FieldsFunc(o.stdout, func(r rune) bool { return strings.ContainsRune("\"{}: \n,", r) }) {
			if strings.Count(part, ".") == 2 && len(part) > 200 {
				w.Add(part, "the token handed out") // from now on it is a secret too
			}
		}
	}
	for _, o := range []outcome{run(registry, "erase"), run("", "logout"), run("", "logout", "--all")} {
		w.Output(o.stdout + o.stderr)
	}
	w.Files(p.home)
}
