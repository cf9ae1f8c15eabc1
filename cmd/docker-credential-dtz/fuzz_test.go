package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/docker/docker-credential-helpers/credentials"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// desk is a system within the test's process, with a login in a file that serves
// 127.0.0.1:5000 and needs no renewal. Whatever it would ask over a network is
// out of reach.
type desk struct {
	home, token string
	config      []byte
	login       store.Login
	key         store.Key
	now         time.Time
}

func newDesk(f *testing.F) *desk {
	f.Helper()
	f.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	d := &desk{home: f.TempDir(), now: time.Unix(1_800_000_000, 0), key: store.Key{Identity: "http://127.0.0.1:1/api", Profile: config.DefaultProfile}}
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	d.token = part(map[string]any{"alg": "RS256"}) + "." + part(map[string]any{
		"iss": "dtz.rocks", "sub": "identity-alice123", "scope": "context-abc12345", "exp": d.now.Add(24 * time.Hour).Unix(),
	}) + ".c2lnbmF0dXJl"
	d.login = store.Login{
		Method: store.Password, User: testUser, Subject: "identity-alice123", Context: "context-abc12345",
		Tokens: []store.Token{{Context: "context-abc12345", Access: secret.String(d.token), Received: d.now, Lifetime: 24 * time.Hour}},
	}
	text, err := json.Marshal(map[string]any{
		"version":  1,
		"logins":   []config.Login{{Identity: d.key.Identity, Profile: d.key.Profile, Store: store.FileName}},
		"bindings": map[string]config.Binding{deskAddress: {Identity: d.key.Identity, Profile: d.key.Profile}},
	})
	if err != nil {
		f.Fatal(err)
	}
	d.config = text
	return d
}

const deskAddress = "127.0.0.1:5000"

func (d *desk) lookup(name string) (string, bool) {
	value, set := map[string]string{
		"HOME": d.home, "XDG_CONFIG_HOME": filepath.Join(d.home, "config"), "XDG_STATE_HOME": filepath.Join(d.home, "state"),
		"DTZ_TIMEOUT": "150ms", // no second try
	}[name]
	return value, set
}

func (d *desk) path(t *testing.T) string {
	t.Helper()
	path, err := config.Path(func(name string) string { value, _ := d.lookup(name); return value })
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// tidy undoes what a change has done.
func (d *desk) tidy(t *testing.T) {
	t.Helper()
	path := d.path(t)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, d.config, 0o600); err != nil {
		t.Fatal(err)
	}
	dir, err := config.StateDir(func(name string) string { value, _ := d.lookup(name); return value })
	if err != nil {
		t.Fatal(err)
	}
	if err := (store.File{Dir: filepath.Join(dir, "logins")}).Save(t.Context(), d.key, &d.login); err != nil {
		t.Fatal(err)
	}
}

// ask has serve read input, and checks what can be said of every answer: lines
// that do nothing to a terminal, each of ours.
func (d *desk) ask(t *testing.T, input []byte, serve func(system) int) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	began := time.Now()
	code := serve(system{
		stdin: bytes.NewReader(input), stdout: &stdout, stderr: &stderr, lookup: d.lookup,
		now: func() time.Time { return d.now.Add(time.Minute) },
	})
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("%q took %v", input, took)
	}
	for _, text := range []string{stdout.String(), stderr.String()} {
		if why := unfit(text); why != "" {
			t.Errorf("%q is answered %q: %s", input, text, why)
		}
	}
	for line := range strings.Lines(stderr.String()) {
		if !strings.HasPrefix(line, program+": ") {
			t.Errorf("%q is answered on standard error %q", input, line)
		}
	}
	return outcome{stdout.String(), stderr.String(), code}
}

// longestLine is more than any line needs that we write but a token, in bytes.
const longestLine = 4 << 10

// unfit says what in text a terminal would not just show; "": nothing.
func unfit(text string) string {
	switch {
	case !utf8.ValidString(text):
		return "it is not UTF-8"
	case text != "" && !strings.HasSuffix(text, "\n"):
		return "its last line does not end"
	}
	for line := range strings.Lines(text) {
		if len(line) > longestLine {
			return "a line is too long"
		}
		if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return r != '\t' && !unicode.IsGraphic(r) }) {
			return "it holds what cannot be shown"
		}
	}
	return ""
}

// Whatever Docker, or whoever runs the helper, sends it: a credential for the
// address that was asked for and no other, or an error of one line.
func FuzzProtocol(f *testing.F) {
	d := newDesk(f)
	for _, input := range []string{
		deskAddress, "http://" + deskAddress, "https://" + deskAddress + "/v2/\n", deskAddress + "\r\n", "cr.dtz.rocks", deskAddress + "@evil.example", "evil.example/" + deskAddress, deskAddress + "\n" + deskAddress,
		deskAddress + "\x00", " " + deskAddress, deskAddress + "\u202e", "\x1b[31m", strings.Repeat("a", maxInput+1), strings.Repeat("a", maxInput), "",
		`{"ServerURL":"` + deskAddress + `","Username":"bearer","Secret":"` + d.token + `"}`, `{"ServerURL":"` + deskAddress + `","Username":"bearer","Secret":"eyJhbGciOiJub25lIn0.e30.x"}`,
		`{"ServerURL":"` + deskAddress + `","Username":"apikey","Secret":"apikey-canary0123456789canary01"}`, `{"ServerURL":"` + deskAddress + `","Username":"me","Secret":"correct horse battery"}`,
		`{"ServerURL":"evil.example","Username":"me\u001b[31m","Secret":"correct horse battery"}`, `{"ServerURL":"\u001b[31m\u202e","Username":"me","Secret":"x"}`,
		`{"ServerURL":"a","ServerURL":"` + deskAddress + `","Username":"","Secret":""}`, `{"serverurl":"` + deskAddress + `"`, `[]`, `null`, strings.Repeat("[", 60_000), "\xff",
	} {
		for verb := range verbs {
			f.Add(uint8(verb), []byte(input))
		}
	}
	isTidy := false
	f.Fuzz(func(t *testing.T, which uint8, input []byte) {
		verb := verbs[int(which)%len(verbs)]
		if !isTidy {
			d.tidy(t)
		}
		changes := verb == credentials.ActionStore || verb == credentials.ActionErase
		isTidy = !changes
		before := d.read(t)
		o := d.ask(t, input, func(sys system) int { return sys.serveDocker(context.Background(), verb) })
		if o.code == exitFailure && strings.Count(o.stdout, "\n") != 1 || strings.Count(o.stderr, "\n") > 1 || o.code != exitOK && o.code != exitFailure {
			t.Errorf("%s %q: %+v", verb, input, o)
		}
		address, err := config.ParseAddress(cutLineBreak(string(input)))
		switch verb {
		case credentials.ActionGet:
			var answer credentials.Credentials
			switch {
			case o.code != exitOK && err == nil && address == deskAddress:
				t.Errorf("get %q: %+v", input, o)
			case o.code != exitOK:
				if strings.Contains(o.stdout+o.stderr, d.token) || err != nil && o.stderr != "" && utf8.Valid(input) && len(input) <= maxInput && cutLineBreak(string(input)) != "" {
					t.Errorf("get %q: %+v", input, o)
				}
			case err != nil || address != deskAddress:
				t.Errorf("get %q is answered", input)
			case json.Unmarshal([]byte(o.stdout), &answer) != nil || answer.Username != session.UserBearer || answer.Secret != d.token || o.stderr != "":
				t.Errorf("get %q: %+v", input, o)
			}
		case credentials.ActionStore:
			var sent credentials.Credentials
			_ = json.Unmarshal(input, &sent)
			if len(sent.Secret) >= 16 && !strings.Contains(sent.ServerURL, sent.Secret) && strings.Contains(o.stdout+o.stderr, sent.Secret) {
				t.Errorf("store %q tells the secret: %+v", input, o)
			}
			if after := d.read(t); !bytes.Equal(before, after) { // nothing can have been proved
				t.Errorf("store %q binds\n%s", input, after)
			}
		case credentials.ActionErase:
			if after := d.read(t); !bytes.Equal(before, after) && (err != nil || address != deskAddress) {
				t.Errorf("erase %q leaves\n%s", input, after)
			}
		case credentials.ActionList:
			var all map[string]string
			if json.Unmarshal([]byte(o.stdout), &all) != nil || len(all) != 1 || all[deskAddress] != session.UserBearer {
				t.Errorf("list: %+v", o)
			}
		}
	})
}

func (d *desk) read(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile(d.path(t))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The kubelet gets a credential for the registry of the image that it asked
// for, to the letter, or one line that says why not.
func FuzzKubelet(f *testing.F) {
	d := newDesk(f)
	request := func(image string) []byte {
		text, err := json.Marshal(map[string]string{"apiVersion": kubeletAPI, "kind": "CredentialProviderRequest", "image": image, "serviceAccountToken": "canary.service.account.token"})
		if err != nil {
			f.Fatal(err)
		}
		return text
	}
	for _, image := range []string{
		deskAddress + "/app:v1", deskAddress + "/app@sha256:abc", "cr.dtz.rocks/app", "app", "library/app", deskAddress, "evil.example/" + deskAddress + "/app", deskAddress + "@evil.example/app",
		"HTTP://" + deskAddress + "/app", "\x1b[31m\u202e/app", deskAddress + "\n/app", deskAddress + "\x00/app", strings.Repeat("a.", 40<<10) + "/app", "",
	} {
		f.Add(request(image))
	}
	good := string(request(deskAddress + "/app"))
	for _, text := range []string{
		strings.Replace(good, "CredentialProviderRequest", `\u001b[31m`, 1), strings.Replace(good, "/v1", `/v1\u202e`, 1), strings.Replace(good, `"image"`, `"IMAGE"`, 1),
		strings.Replace(good, `"kind"`, `"image":"evil.example/app","kind"`, 1), good + good, good[:40], "", "null", "[]", strings.Repeat(`{"image":`, 100_000), "\xff\x00",
	} {
		f.Add([]byte(text))
	}
	isTidy := false
	f.Fuzz(func(t *testing.T, input []byte) {
		if !isTidy {
			d.tidy(t)
			isTidy = true
		}
		o := d.ask(t, input, func(sys system) int {
			var exit exitError
			if err := sys.kubelet(context.Background()); err != nil && !errors.As(err, &exit) {
				t.Errorf("%q ends in %v", input, err)
			}
			return int(exit)
		})
		var sent struct{ Kind, APIVersion, Image, ServiceAccountToken string }
		if json.Unmarshal(input, &sent) == nil && len(sent.ServiceAccountToken) >= 16 &&
			!strings.Contains(sent.Kind+" "+sent.APIVersion+" "+sent.Image, sent.ServiceAccountToken) && strings.Contains(o.stdout+o.stderr, sent.ServiceAccountToken) {
			t.Errorf("%q: %+v tells the pod's token", input, o)
		}
		if o.code != exitOK {
			if o.stdout != "" || strings.Count(o.stderr, "\n") != 1 {
				t.Errorf("%q: %+v", input, o)
			}
			return
		}
		var answer kubeletResponse
		dec := json.NewDecoder(strings.NewReader(o.stdout))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&answer); err != nil || answer.APIVersion != kubeletAPI || strings.Count(o.stdout, "\n") != 1 || o.stderr != "" {
			t.Fatalf("%q: %+v, %v", input, o, err)
		}
		if kept, err := time.ParseDuration(answer.CacheDuration); err != nil || kept < 0 || kept > 12*time.Hour {
			t.Errorf("%q may be kept for %q", input, answer.CacheDuration)
		}
		image, err := requestedImage(input)
		if err != nil {
			t.Fatalf("%q is answered: %v", input, err)
		}
		for registry, auth := range answer.Auth {
			address, err := config.ParseAddress(registry)
			if err != nil || address != deskAddress || !strings.HasPrefix(image, registry+"/") || auth.Password != d.token {
				t.Errorf("%q is given %q", input, registry)
			}
		}
		if host, _, found := strings.Cut(image, "/"); found && host == deskAddress && len(answer.Auth) != 1 {
			t.Errorf("%q is given nothing", input)
		}
	})
}
