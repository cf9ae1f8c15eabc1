package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
)

// bob has the registry's role, and two of other services.
var bob = identity.User{
	Subject: "identity-bob00001", Name: "bob", Password: "of bob",
	Contexts: []string{"context-abc12345"},
	Roles:    []string{platform.RegistryRole, "https://dtz.rocks/containers/admin/{context_id}", "https://dtz.rocks/identity/admin/{identity_id}"},
}

type inspection struct {
	t     *testing.T
	dir   string
	now   time.Time
	token string
}

// newInspection is a token of bob's that is an hour old and good for 23 more,
// and its key in a file.
func newInspection(t *testing.T) *inspection {
	t.Helper()
	i := &inspection{t: t, dir: t.TempDir(), now: time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)}
	service, err := identity.New(identity.Config{Users: []identity.User{bob}, Now: func() time.Time { return i.now.Add(-time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	if i.token, err = service.Issue(bob.Subject, ""); err != nil {
		t.Fatal(err)
	}
	i.write("dtz1.pub.pem", service.PublicKeyPEM())
	i.write("deny.json", `{"identities": ["bob00001"]}`)
	return i
}

func (i *inspection) write(name, text string) {
	i.t.Helper()
	if err := os.WriteFile(filepath.Join(i.dir, name), []byte(text), 0o600); err != nil {
		i.t.Fatal(err)
	}
}

// run is inspect with the key, and more settings of verification.
func (i *inspection) run(settings, token string, args ...string) (code int, stdout, stderr string) {
	i.t.Helper()
	i.write("dtz.yaml", "verification:\n  keys: ["+filepath.Join(i.dir, "dtz1.pub.pem")+"]\n  "+strings.ReplaceAll(settings, "DIR", i.dir)+"\n")
	var out, errOut bytes.Buffer
	args = append([]string{"inspect", "--config", filepath.Join(i.dir, "dtz.yaml"), "--at", i.now.Format(time.RFC3339)}, args...)
	code = run(i.t.Context(), args, strings.NewReader(token), &out, &errOut)
	if strings.Contains(out.String()+errOut.String(), i.token) {
		i.t.Errorf("the token is printed: %s%s", &out, &errOut)
	}
	return code, out.String(), errOut.String()
}

const admitted = `identity   identity-bob00001
context    context-abc12345
issued     2026-11-24T09:00:00Z (60 minutes ago)
expires    2026-11-25T09:00:00Z (in 23 hours)
roles      https://dtz.rocks/containerregistry/admin/context-abc12345
           and 2 of other services
Let in. It may pull, push, delete.
`

func TestInspect(t *testing.T) {
	i := newInspection(t)
	const open = `contexts: ["*"]`
	segments := strings.Split(i.token, ".")
	payload, err := base64.RawURLEncoding.DecodeString(segments[1])
	if err != nil {
		t.Fatal(err)
	}
	forged := segments[0] + "." + base64.RawURLEncoding.EncodeToString(bytes.ReplaceAll(payload, []byte("bob00001"), []byte(`eve\u001b[2J`))) + "." + segments[2]
	tests := []struct {
		name, settings, token string
		args                  []string
		code                  int
		says                  string // a part of standard output
	}{
		{"a good token", open, i.token, nil, 0, admitted},
		{"a good token with a line break", open, i.token + "\n", nil, 0, admitted},
		{"a good token as a header", open, "Authorization: Bearer " + i.token + "\n", nil, 0, admitted},
		{"its context in the other spelling", `contexts: [abc12345]`, i.token, nil, 0, admitted},
		{"a token of another context", `contexts: [context-zzz99999]`, i.token, nil, 1, "Refused by verification.contexts: context-abc12345 may not use this registry\n"},
		{"a token without the role", open + "\n  roles: {admin: [\"https://dtz.rocks/other/{context_id}\"]}", i.token, nil, 1, "Refused by verification.roles: missing role https://dtz.rocks/other/context-abc12345\n"},
		{"a role that pulls", open + "\n  roles: {admin: [\"https://dtz.rocks/other/{context_id}\"], pull: [\"https://dtz.rocks/containers/admin/{context_id}\"]}", i.token, nil, 0, "Let in. It may pull.\n"},
		{"an identity that is denied", open + "\n  deny_list: DIR/deny.json", i.token, nil, 1, "Refused by verification.deny_list: "},
		{"a token that has expired", open, i.token, []string{"--at", "2026-11-25T09:01:00Z"}, 1, "expires    2026-11-25T09:00:00Z (60 seconds ago)\n"},
		{"a token that has expired, and why", open, i.token, []string{"--at", "2026-11-25T09:01:00Z"}, 1, "Refused by expired: in the past\n"},
		{"a token from tomorrow", open, i.token, []string{"--at", "2026-11-23T09:00:00Z"}, 1, "Refused by iat: in the future\n"},
		{"another issuer", open + "\n  issuer: elsewhere", i.token, nil, 1, "Refused by iss: another issuer\n"},
		{"a forged token", open, forged, nil, 1, "The token says of itself, and nothing vouches for it:\nidentity   identity-eve?[2J\n"},
		{"nonsense", open, "nonsense", nil, 1, "Refused by shape: not three segments\n"},
		{"an API key", open, "apikey-abc12345", nil, 1, "Refused by shape: not three segments\n"},
		{"a token that is not UTF-8", open, "\xff", nil, 1, "Refused by shape: the token is not UTF-8\n"},
	}
	for _, tt := range tests {
		code, stdout, stderr := i.run(tt.settings, tt.token, tt.args...)
		if code != tt.code || !strings.Contains(stdout, tt.says) || stderr != "" {
			t.Errorf("%s: %d\n%s%s\nwant %d\n%s", tt.name, code, stdout, stderr, tt.code, tt.says)
		}
		if strings.Contains(stdout, "\x1b") {
			t.Errorf("%s: an escape reaches the terminal: %q", tt.name, stdout)
		}
	}
}

func TestInspectJSON(t *testing.T) {
	i := newInspection(t)
	code, stdout, _ := i.run(`contexts: ["*"]`, i.token, "--output", "json")
	want := `{"admitted":true,"verified":true,"identity":"identity-bob00001","context":"context-abc12345","issuedAt":"2026-11-24T09:00:00Z","expires":"2026-11-25T09:00:00Z",` +
		`"roles":["https://dtz.rocks/containerregistry/admin/context-abc12345","https://dtz.rocks/containers/admin/context-abc12345","https://dtz.rocks/identity/admin/identity-bob00001"],"actions":["pull","push","delete"]}` + "\n"
	if code != 0 || stdout != want {
		t.Errorf("%d %s, want 0 %s", code, stdout, want)
	}
	// A claim is looked at only in a token whose signature is good.
	past := []string{"--at", "2026-11-25T09:01:00Z", "--output", "json"}
	signed, signature, _ := strings.Cut(i.token[strings.IndexByte(i.token, '.')+1:], ".")
	forged := i.token[:strings.IndexByte(i.token, '.')+1] + signed + "." + strings.Repeat("A", len(signature))
	for token, want := range map[string]string{
		i.token: `{"admitted":false,"rule":"expired","reason":"in the past","verified":true,"identity":"identity-bob00001"`,
		forged:  `{"admitted":false,"rule":"signature","reason":"made with another key, or for another text","verified":false,"identity":"identity-bob00001"`,
	} {
		if code, stdout, _ := i.run(`contexts: ["*"]`, token, past...); code != 1 || !strings.HasPrefix(stdout, want) {
			t.Errorf("%d %s, want 1 %s", code, stdout, want)
		}
	}
	code, stdout, _ = i.run(`contexts: [context-zzz99999]`, i.token, "--output", "json")
	var f struct {
		Admitted, Verified bool
		Rule, Reason       string
	}
	if err := json.Unmarshal([]byte(stdout), &f); err != nil || code != 1 || f.Admitted || !f.Verified || f.Rule != "verification.contexts" || f.Reason == "" {
		t.Errorf("%d %s (%v), want 1 and the setting that refuses it", code, stdout, err)
	}
}

func TestInspectFailures(t *testing.T) {
	i := newInspection(t)
	tests := []struct {
		name, settings, token string
		args                  []string
		code                  int
		says                  string // a part of standard error
	}{
		{"no token", `contexts: ["*"]`, " \n", nil, 1, "dtz-registry: no token on standard input\n"},
		{"a configuration without contexts", `leeway: 1s`, i.token, nil, 1, "dtz.yaml:2: verification.contexts: nobody may use this registry"},
		{"a time that is none", `contexts: ["*"]`, i.token, []string{"--at", "yesterday"}, 2, "want RFC 3339"},
		{"an output that is none", `contexts: ["*"]`, i.token, []string{"--output", "yaml"}, 2, "want text or json"},
		{"a token for an argument", `contexts: ["*"]`, i.token, []string{"token"}, 2, "unknown command"},
	}
	for _, tt := range tests {
		code, stdout, stderr := i.run(tt.settings, tt.token, tt.args...)
		if code != tt.code || stdout != "" || !strings.Contains(stderr, tt.says) {
			t.Errorf("%s: %d %q %q, want %d, nothing and %q", tt.name, code, stdout, stderr, tt.code, tt.says)
		}
	}
}

// The platform's key is built in: a token of somebody else's is no token of the
// platform's.
func TestInspectWithoutConfiguration(t *testing.T) {
	i := newInspection(t)
	var out, errOut bytes.Buffer
	code := run(t.Context(), []string{"inspect"}, strings.NewReader(i.token), &out, &errOut)
	if code != 1 || !strings.Contains(out.String(), "Refused by signature: ") && !strings.Contains(out.String(), "Refused by kid: ") {
		t.Errorf("%d %s%s, want it refused for its signature", code, &out, &errOut)
	}
}
