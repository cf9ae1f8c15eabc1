package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
)

// askKubelet puts a request to the program, on a machine that a container's
// token serves for cr.dtz.rocks and for the registries listed.
func askKubelet(t *testing.T, input io.Reader, registries ...string) outcome {
	t.Helper()
	claims := fmt.Sprintf(`{"iss":"dtz.rocks","sub":"identity-alice123","scope":"context-abc12345","exp":%d}`, time.Now().Add(time.Hour).Unix())
	part := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	env := map[string]string{
		"HOME":             t.TempDir(),
		"DTZ_ACCESS_TOKEN": part(`{"alg":"RS256"}`) + "." + part(claims) + "." + part("signature"),
		"DTZ_REGISTRIES":   strings.Join(registries, ","),
	}
	if input == (endless{}) {
		env["DTZ_TIMEOUT"] = "300ms"
	}
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"kubelet"}, system{
		stdin: input, stdout: &stdout, stderr: &stderr, now: time.Now,
		lookup: func(name string) (string, bool) { value, set := env[name]; return value, set },
	})
	return outcome{stdout.String(), stderr.String(), code}
}

func TestKubeletGivesNoOtherRegistryAToken(t *testing.T) {
	for _, tt := range []struct {
		image string
		key   string // of the one credential in the answer; empty: none
	}{
		{"cr.dtz.rocks/app", "cr.dtz.rocks"},
		{"cr.dtz.rocks/team/app", "cr.dtz.rocks"},
		{"cr.dtz.rocks/app:v1", "cr.dtz.rocks"},
		{"cr.dtz.rocks/app@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "cr.dtz.rocks"},
		{"cr.dtz.rocks:3214/app:v1", "cr.dtz.rocks:3214"},
		{"cr.dtz.rocks:443/app", "cr.dtz.rocks:443"}, // the kubelet finds no other key for it
		{"CR.DTZ.rocks/app", "CR.DTZ.rocks"},
		{"localhost/app", "localhost"},
		{"[::1]:5000/app", "[::1]:5000"},
		{"Intranet/app", "Intranet"}, // nobody's name at Docker Hub has upper case

		// Docker Hub's, however much they look like ours.
		{"app", ""},
		{"cr.dtz.rocks", ""},
		{"cr.dtz.rocks:3214", ""},
		{"intranet/app", ""},
		{"docker.io/cr.dtz.rocks/app", ""},

		{"cr.dtz.rocks.evil.com/app", ""},
		{"evil.com/cr.dtz.rocks/app", ""},
		{"evil-cr.dtz.rocks/app", ""},
		{"dtz.rocks/app", ""},
		{"identity.dtz.rocks/app", ""},
		{"cr.dtz.rocks@evil.com/app", ""},
		{"cr.dtz.rocks:x@evil.com/app", ""},
		{"cr.dtz.rocks:443:80/app", ""},
		{"cr.dtz.rocks:/app", ""},
		{"cr.dtz.rocks:0/app", ""},
		{"cr.dtz.rocks:0443/app", ""},
		{"cr.dtz.rocks:65536/app", ""},
		{"cr.dtz.rocks./app", ""},
		{".cr.dtz.rocks/app", ""},
		{"*.dtz.rocks/app", ""}, // in an answer it would be a pattern
		{"cr.dtz.rock?/app", ""},
		{"[c]r.dtz.rocks/app", ""},
		{"https://cr.dtz.rocks/app", ""},
		{"//cr.dtz.rocks/app", ""},
		{`cr.dtz.rocks\@evil.com/app`, ""},
		{"cr.dtz.rocks%2f@evil.com/app", ""},
		{"cr.dtz.rocks#@evil.com/app", ""},
		{"cr.dtz.rocks /app", ""},
		{" cr.dtz.rocks/app", ""},
		{"cr.dtz.rocks\n/app", ""},
		{"cr.dtz.rocks\x00/app", ""},
		{"сr.dtz.rocks/app", ""}, // its first letter is Cyrillic
		{"cr。dtz。rocks/app", ""},
		{"localhost:5000/app", ""},
		{"127.0.0.1:5000/app", ""},
		{"/app", ""},
	} {
		request, err := json.Marshal(map[string]string{"apiVersion": kubeletAPI, "kind": "CredentialProviderRequest", "image": tt.image})
		if err != nil {
			t.Fatal(err)
		}
		o := askKubelet(t, bytes.NewReader(request), "localhost", "intranet", "[::1]:5000")
		var answer kubeletResponse
		if err := json.Unmarshal([]byte(o.stdout), &answer); err != nil || o.code != exitOK || o.stderr != "" {
			t.Errorf("%q: %+v", tt.image, o)
			continue
		}
		switch cred, given := answer.Auth[tt.key]; {
		case answer.APIVersion != kubeletAPI || answer.Kind != "CredentialProviderResponse" || answer.CacheKeyType != "Registry":
			t.Errorf("%q: the answer is %s", tt.image, o.stdout)
		case tt.key == "" && (len(answer.Auth) > 0 || answer.CacheDuration != "0s"):
			t.Errorf("%q is answered for %s", tt.image, o.stdout)
		case tt.key != "" && (len(answer.Auth) != 1 || !given || cred.Username != session.UserBearer || cred.Password == ""):
			t.Errorf("%q: the answer is %s, want a token for %q", tt.image, o.stdout, tt.key)
		}
	}
}

func TestKubeletRefusesWhatIsNoRequest(t *testing.T) {
	const canary = "service.account.token"
	request := func(fields string) io.Reader {
		return strings.NewReader(`{"apiVersion":"` + kubeletAPI + `","kind":"CredentialProviderRequest",` + fields + `}`)
	}
	for _, tt := range []struct {
		name  string
		input io.Reader
		want  string // on standard error, behind the program's name
	}{
		{"nothing", strings.NewReader(""), "standard input holds no request of the kubelet, which is a JSON object; docs/kubelet.md has one to try by hand"},
		{"null", strings.NewReader("null"), `the request on standard input is of kind "" and not CredentialProviderRequest`},
		{"a list", strings.NewReader("[]"), "standard input holds no request of the kubelet, which is a JSON object; docs/kubelet.md has one to try by hand"},
		{"more behind it", io.MultiReader(request(`"image":"cr.dtz.rocks/app"`), strings.NewReader("{}")), "standard input holds no request of the kubelet, which is a JSON object; docs/kubelet.md has one to try by hand"},
		{"half of it", strings.NewReader(`{"serviceAccountToken":"` + canary), "standard input holds no request of the kubelet, which is a JSON object; docs/kubelet.md has one to try by hand"},
		{"no image", request(`"serviceAccountToken":"` + canary + `"`), "the kubelet's request names no image"},
		{"an image that is a number", request(`"image":1`), "the kubelet's request names no image"},
		{"an image of other case", request(`"Image":"cr.dtz.rocks/app"`), "the kubelet's request names no image"},
		{"a kind of other case", strings.NewReader(`{"apiVersion":"` + kubeletAPI + `","Kind":"CredentialProviderRequest","image":"cr.dtz.rocks/app"}`), `the request on standard input is of kind "" and not CredentialProviderRequest`},
		{"control characters in the kind", strings.NewReader(`{"kind":"\u001b[2J\n"}`), `the request on standard input is of kind "" and not CredentialProviderRequest`},
		{"too much", io.MultiReader(request(`"image":"cr.dtz.rocks/app"`), strings.NewReader(strings.Repeat(" ", maxKubeletRequest))), "standard input is over 1048576 bytes"},
		{"an end that does not come", endless{}, "standard input did not end in time; whoever writes to it has to close it"},
	} {
		o := askKubelet(t, tt.input)
		if want := "docker-credential-dtz: " + tt.want + "\n"; o.code != exitFailure || o.stdout != "" || o.stderr != want {
			t.Errorf("%s: %+v\nwant on standard error %s", tt.name, o, want)
		}
	}
}

// endless is a standard input that nobody writes to or closes.
type endless struct{}

func (endless) Read([]byte) (int, error) { select {} }

// Whatever a newer kubelet or a service account adds does not matter.
func TestKubeletPassesOverFieldsItDoesNotKnow(t *testing.T) {
	annotations := strings.Repeat("a", 256<<10)
	o := askKubelet(t, strings.NewReader(`{"image":"evil.com/app","more":{"image":"x"},"serviceAccountAnnotations":{"a":"`+annotations+`"},
		"kind":"CredentialProviderRequest","image":"cr.dtz.rocks/app","serviceAccountToken":"x.y.z","apiVersion":"`+kubeletAPI+`"}`))
	if o.code != exitOK || !strings.Contains(o.stdout, `"auth":{"cr.dtz.rocks":`) || strings.Contains(o.stdout, "x.y.z") {
		t.Errorf("%+v", o)
	}
}

func TestKubeletKeepsNoTokenThatIsAboutToEnd(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		left time.Duration // of the token
		want string
	}{
		{24 * time.Hour, "12h0m0s"},
		{time.Hour, "30m0s"},
		{21*time.Minute + 300*time.Millisecond, "10m30s"},
		{20 * time.Minute, "10m0s"},
		{15 * time.Minute, "5m0s"},
		{10*time.Minute + 900*time.Millisecond, "0s"},
		{10 * time.Minute, "0s"},
		{time.Minute, "0s"},
		{-time.Minute, "0s"}, // the clock was turned forward a moment ago
	} {
		got := kubeletMayKeep(&session.Credential{Username: session.UserBearer, Expires: now.Add(tt.left)}, now)
		if got.String() != tt.want {
			t.Errorf("a token with %v left is kept for %v, want %s", tt.left, got, tt.want)
		}
	}
	if got := kubeletMayKeep(&session.Credential{Username: session.UserAPIKey}, now); got != time.Minute {
		t.Errorf("an API key is kept for %v, want a minute", got)
	}
}

// The kubelet is started without HOME, and root's files still count.
func TestHomeOfTheAccount(t *testing.T) {
	account, err := user.Current()
	if err != nil || account.HomeDir == "" {
		t.Skip("this account has no home folder")
	}
	for _, unset := range []func(){
		func() { t.Setenv("HOME", "") },
		func() { os.Unsetenv("HOME") },
	} {
		unset()
		if home, set := lookupEnv("HOME"); home != account.HomeDir || !set {
			t.Errorf("HOME = %q, %v, want %q", home, set, account.HomeDir)
		}
	}
	t.Setenv("HOME", "/elsewhere")
	if home, _ := lookupEnv("HOME"); home != "/elsewhere" {
		t.Errorf("HOME = %q", home)
	}
	if value, set := lookupEnv("DTZ_NOBODY_SETS_THIS"); value != "" || set {
		t.Errorf("another variable = %q, %v", value, set)
	}
}
