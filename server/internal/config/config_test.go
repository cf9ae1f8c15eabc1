package config

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
)

// parse is Load, of a text.
func parse(file, text string) (*Config, []Warning, error) {
	r := &reader{file: file}
	return r.result(r.parse([]byte(text)))
}

// minimal is the least that a configuration has to say.
const minimal = "verification: {contexts: [context-abc12345]}\n"

// whole is every key with its default, but for contexts.
const whole = `listen: 127.0.0.1:8080
tls: {certificate: "", key: ""}
trusted_proxies: []
metrics: {listen: ""}
verification:
  issuer: dtz.rocks
  audience: dtz.rocks
  leeway: 60s
  keys: []
  jwks_url: ""
  contexts: [context-abc12345]
  identity_url: https://identity.dtz.rocks/api/2021-02-21
  api_key_ttl: 5m
  order: explicit
  cookie: safe
  query_api_key: false
  deny_list: ""
  roles:
    admin: ["https://dtz.rocks/containerregistry/admin/{context_id}"]
    pull: []
    push: []
    delete: []
forward_auth: {nginx: false}
registry: {}
`

func TestDefaultsAreWhatTheWholeFileSays(t *testing.T) {
	fromWhole, _, err := parse("dtz.yaml", whole)
	if err != nil {
		t.Fatal(err)
	}
	fromMinimal, _, err := parse("dtz.yaml", minimal)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Config{fromWhole, fromMinimal} {
		c.images = nil // it has a random secret
	}
	// Nil and empty lists are the same to whoever uses them.
	fromWhole.Verification.Roles = registry.Roles{Admin: fromWhole.Verification.Roles.Admin}
	if !reflect.DeepEqual(fromWhole, fromMinimal) {
		t.Errorf("with every default written down %+v, with none %+v", fromWhole, fromMinimal)
	}
	if keys := fromMinimal.Verification.Keys; len(keys) != 1 || keys[0].ID != registry.PlatformKey().ID {
		t.Errorf("without keys: %v, want the platform's", keys)
	}
}

func TestDocumentHasTheDefaults(t *testing.T) {
	text, err := os.ReadFile("../../../docs/dtz-registry.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.ReplaceAll(string(text), "\r\n", "\n"), "```yaml\n"+whole+"```\n<!-- /configuration -->") {
		t.Errorf("docs/dtz-registry.md does not have the configuration\n%s", whole)
	}
}

func TestSettings(t *testing.T) {
	dir := t.TempDir()
	key := writeKey(t, filepath.Join(dir, "spare.pub.pem"), 2048)
	deny := write(t, filepath.Join(dir, "deny.json"), `{"identities": ["identity-abc12345"]}`)
	c, warnings, err := parse("dtz.yaml", (`listen: ":5000"
trusted_proxies: [10.0.0.0/8, 192.0.2.1, "2001:db8::/32"]
metrics: {listen: "127.0.0.1:9090"}
verification:
  issuer: issuer
  audience: audience
  leeway: 0s
  keys: [` + key + `]
  jwks_url: https://identity.dtz.rocks/.well-known/jwks.json
  contexts: ["*"]
  identity_url: ""
  api_key_ttl: 90s
  order: platform
  cookie: all
  query_api_key: true
  deny_list: ` + deny + `
  roles: {pull: ["https://dtz.rocks/pull/{context_id}"]}
forward_auth: {nginx: true}
registry: {storage: {inmemory: {}}}
`))
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	v := c.Verification
	if v.Leeway != 0 || v.APIKeyTTL != 90*time.Second || v.Order != registry.OrderPlatform || v.Cookie != registry.CookieAll || !v.QueryAPIKey {
		t.Errorf("verification = %+v", v)
	}
	if len(v.Keys) != 1 || v.Keys[0].ID != "spare" {
		t.Errorf("keys = %v, want the one called spare", v.Keys)
	}
	if len(c.TrustedProxies) != 3 || c.TrustedProxies[1].String() != "192.0.2.1/32" || c.Storage != "inmemory" || !c.Nginx || c.MetricsListen != "127.0.0.1:9090" {
		t.Errorf("configuration = %+v", c)
	}
	if len(v.Roles.Admin) != 1 || len(v.Roles.Pull) != 1 {
		t.Errorf("roles = %+v, want that for pulling beside the default of admin", v.Roles)
	}
}

func TestProblemsNameFileAndLine(t *testing.T) {
	dir := t.TempDir()
	weak := writeKey(t, filepath.Join(dir, "weak.pem"), 1024)
	good := writeKey(t, filepath.Join(dir, "good.pem"), 2048)
	writeKey(t, filepath.Join(mkdir(t, dir, "other"), "good.pem"), 2048)
	broken := write(t, filepath.Join(dir, "deny.json"), `{"identity": []}`)
	certificate, _ := writeCertificate(t, dir)
	weakCertificate, weakKey := writeWeakCertificate(t, mkdir(t, dir, "weak"))
	withVerification := func(line string) string {
		return "verification:\n  contexts: [context-abc12345]\n  " + line + "\n"
	}
	tests := []struct {
		name, text string
		line, says string
	}{
		{"nothing", "", "1", "verification.contexts: nobody may use this registry"},
		{"no contexts", "listen: 127.0.0.1:8080\nverification:\n  leeway: 60s\n", "3", "verification.contexts: nobody may use this registry"},
		{"contexts that are empty", "verification:\n  contexts: []\n", "2", "nobody may use this registry"},
		{"contexts that are null", "verification:\n  contexts:\n", "2", "nobody may use this registry"},
		{"a context that is an identity", "verification:\n  contexts:\n    - context-abc12345\n    - identity-abc12345\n", "4", "verification.contexts[1]: want the id of a context"},
		{"a context that no folder can be called", "verification:\n  contexts: [abc_d]\n", "2", "verification.contexts[0]: want the id of a context"},
		{"every context, and one more", "verification:\n  contexts: [\"*\", context-abc12345]\n", "2", `"*" is every context`},
		{"a key that nobody knows", minimal + "listn: 127.0.0.1:8080\n", "2", "listn: unknown key"},
		{"a key that nobody knows further in", withVerification("isuer: dtz.rocks"), "3", "verification.isuer: unknown key"},
		{"a key in the wrong case", withVerification("Issuer: dtz.rocks"), "3", "verification.Issuer: unknown key"},
		{"a key twice", minimal + "listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n", "3", "listen: again; it stands in line 2 already"},
		{"a section that is a string", "verification: yes please\n", "1", "verification: want a mapping"},
		{"the file is a list", "- listen\n", "1", "this file: want a mapping"},
		{"an alias", "verification: {contexts: &c [context-abc12345]}\ntrusted_proxies: *c\n", "2", "trusted_proxies: want a list"},
		{"an empty issuer", withVerification(`issuer: ""`), "3", "verification.issuer: is empty"},
		{"a null issuer", withVerification(`issuer:`), "3", "verification.issuer: is empty"},
		{"an issuer that is a number", withVerification(`issuer: 7`), "3", "verification.issuer: want a string"},
		{"an empty audience", withVerification(`audience: ""`), "3", "verification.audience: is empty"},
		{"a negative leeway", withVerification("leeway: -1s"), "3", "verification.leeway: want a duration from 0s to 10m0s"},
		{"a leeway without unit", withVerification("leeway: 60"), "3", "verification.leeway: want a duration"},
		{"a leeway of an hour", withVerification("leeway: 1h"), "3", "verification.leeway: want a duration"},
		{"a weak key", withVerification("keys: [" + weak + "]"), "3", "has 1024 bits, want 2048 or more"},
		{"a key that is not there", withVerification("keys: [nowhere.pem]"), "3", "nowhere.pem: "},
		{"a key file that is none", withVerification("keys: [" + broken + "]"), "3", "not a PEM file"},
		{"two keys of one ID", withVerification("keys: [" + good + ", " + filepath.Join(dir, "other", "good.pem") + "]"), "3", "the key ID good"},
		{"a JWKS URL without TLS", withVerification("jwks_url: http://identity.dtz.rocks/jwks.json"), "3", "verification.jwks_url: JWKS URL is neither https"},
		{"an identity service without TLS", withVerification("identity_url: http://identity.dtz.rocks"), "3", "verification.identity_url: "},
		{"an API key for ever", withVerification("api_key_ttl: 24h"), "3", "verification.api_key_ttl: want a duration"},
		{"an API key for no time", withVerification("api_key_ttl: 0s"), "3", "verification.api_key_ttl: want a duration"},
		{"another order", withVerification("order: cookie"), "3", "verification.order: want one of [explicit platform]"},
		{"another use of the cookie", withVerification("cookie: on"), "3", "verification.cookie: want "},
		{"a word for a boolean", withVerification(`query_api_key: "true"`), "3", "verification.query_api_key: want true or false"},
		{"a deny-list that is not there", withVerification("deny_list: nowhere.json"), "3", "verification.deny_list: "},
		{"a deny-list with another key", withVerification("deny_list: " + broken), "3", "verification.deny_list: "},
		{"a role with the context in the middle", withVerification(`roles: {pull: ["https://dtz.rocks/{context_id}/pull"]}`), "3", "verification.roles.pull[0]: want {context_id} at the end"},
		{"a role that is a word", withVerification(`roles: {push: [push]}`), "3", "verification.roles.push[0]: want a URI"},
		{"a role that is another's prefix", withVerification(`roles: {push: ["https://dtz.rocks/push{context_id}"]}`), "3", "verification.roles.push[0]: want a slash"},
		{"no role for admin", withVerification(`roles: {admin: []}`), "3", "verification.roles.admin: is empty"},
		{"a role of a kind that is not", withVerification(`roles: {write: []}`), "3", "verification.roles.write: unknown key"},
		{"an address without port", minimal + "listen: 127.0.0.1\n", "2", "listen: want an address and a port"},
		{"a port that is a name", minimal + "listen: 127.0.0.1:http\n", "2", "listen: want an address and a port"},
		{"an address with the length of its network", minimal + "trusted_proxies: [10.0.0.1/8]\n", "2", "trusted_proxies[0]: is more than one address: want 10.0.0.0/8 for the range, 10.0.0.1 for"},
		{"a range of IPv4 in IPv6", minimal + "trusted_proxies: [\"::ffff:10.0.0.0/104\"]\n", "2", "trusted_proxies[0]: want a range of IPv4 as such"},
		{"a key with a line break", minimal + "\"a\\nb: c\": 1\n", "2", "a?b: c: unknown key"},
		{"a file with a line break", withVerification(`deny_list: "no\nwhere"`), "3", "no?where: "},
		{"a merge", minimal + "<<: {listen: \":80\"}\n", "2", "<<: unknown key"},
		{"a TLS key that is weak", minimal + "tls: {certificate: " + weakCertificate + ", key: " + weakKey + "}\n", "2", "has 1024 bits, want 2048 or more"},
		{"a proxy that is a name", minimal + "trusted_proxies: [proxy.example]\n", "2", "trusted_proxies[0]: want an IP address"},
		{"a certificate without key", minimal + "tls: {certificate: " + certificate + "}\n", "2", "tls: want both"},
		{"a certificate with another's key", minimal + "tls: {certificate: " + certificate + ", key: " + filepath.Join(dir, "another.key") + "}\n", "2", "tls: "},
		{"a TLS key that is not there", minimal + "tls: {certificate: " + certificate + ", key: nowhere.key}\n", "2", "tls.key: "},
		{"a number of another kind for nginx", minimal + "forward_auth: {nginx: 1}\n", "2", "forward_auth.nginx: want true or false"},

		{"distribution's authorization", minimal + "registry:\n  auth: {htpasswd: {}}\n", "3", "registry.auth: cannot be set"},
		{"distribution's address", minimal + "registry:\n  http:\n    addr: :5000\n", "4", "registry.http.addr: cannot be set: see listen"},
		{"distribution's redirects", minimal + "registry:\n  storage:\n    inmemory:\n    redirect: {disable: false}\n", "5", "registry.storage.redirect: cannot be set"},
		{"a shared cache", minimal + "registry:\n  storage: {inmemory: {}, cache: {blobdescriptor: redis}}\n", "3", "registry.storage.cache: cannot be set"},
		{"a pull-through cache", minimal + "registry: {proxy: {remoteurl: https://registry-1.docker.io}}\n", "2", "registry.proxy: cannot be set"},
		{"storage middleware", minimal + "registry: {middleware: {storage: []}}\n", "2", "registry.middleware: cannot be set"},
		{"a storage that is not built in", minimal + "registry: {storage: {swift: {}}}\n", "2", "registry.storage.swift: unknown key"},
		{"a storage that is a string", minimal + "registry: {storage: {filesystem: /images}}\n", "2", "registry.storage.filesystem: want a mapping"},
		{"a storage that is a list", minimal + "registry: {storage: {filesystem: [/images]}}\n", "2", "registry.storage.filesystem: want a mapping"},
		{"a storage of another registry's", minimal + "registry:\n  storage: &s {inmemory: {}}\n  catalog: *s\n", "4", "registry.catalog: want no alias"},
		{"a storage that is an alias", minimal + "registry:\n  http: &h {}\n  storage: {filesystem: *h}\n", "4", "registry.storage.filesystem: want a mapping"},
		{"a parameter that its driver does not know", minimal + "registry: {storage: {s3: {region: here, bucket: images, encrpyt: true}}}\n", "2", "registry.storage.s3.encrpyt: unknown key"},
		{"a parameter that is a list", minimal + "registry: {storage: {filesystem: {rootdirectory: [/images]}}}\n", "2", "registry.storage.filesystem.rootdirectory: want a single value"},
		{"purging that comes in by a merge", minimal + "registry: {storage: {inmemory: {}, maintenance: {<<: {uploadpurging: {enabled: false}}}}}\n", "2", "registry.storage.maintenance.<<: unknown key"},
		{"two storages", minimal + "registry: {storage: {inmemory: {}, filesystem: {rootdirectory: /tmp}}}\n", "2", "registry.storage: want one kind of storage"},
		{"no storage at all", minimal + "registry: {storage: {}}\n", "2", "registry.storage: want one kind of storage"},
		{"a key that distribution does not know", minimal + "registry: {http: {secrt: x}}\n", "2", "registry.http.secrt: unknown key"},
		{"a key that distribution does not know in a list", minimal + "registry: {notifications: {endpoints: [{nam: x}]}}\n", "2", "registry.notifications.endpoints.nam: unknown key"},
		{"a mapping for a string", minimal + "registry: {http: {secret: {}}}\n", "2", "registry.http.secret: want string"},
		{"a word for a number", minimal + "registry: {catalog: {maxentries: many}}\n", "2", "registry.catalog.maxentries: want int"},
		{"a string for headers", minimal + "registry: {http: {headers: x}}\n", "2", "registry.http.headers: want http.Header"},
		{"another version of distribution's", minimal + "registry: {version: 0.2}\n", "2", "registry: "},
	}
	writeTLSKey(t, filepath.Join(dir, "another.key"))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, _, err := parse("dtz.yaml", tt.text)
			if err == nil {
				t.Fatalf("parse = %+v, want an error", c)
			}
			if got := err.Error(); !strings.HasPrefix(got, "dtz.yaml:"+tt.line+": ") || !strings.Contains(got, tt.says) || strings.Contains(got, "\n") {
				t.Errorf("parse: %v\nwant dtz.yaml:%s: … %s …", got, tt.line, tt.says)
			}
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, _, err := parse("dtz.yaml", "listen: x\nverification: {issuer: \"\"}\ncolour: green\n")
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"dtz.yaml:1: listen: ", "dtz.yaml:2: verification.issuer: ", "dtz.yaml:2: verification.contexts: ", "dtz.yaml:3: colour: "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %s", err, want)
		}
	}
}

func TestNotYAML(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"a tab", "verification:\n\tissuer: x\n", "dtz.yaml:2: this file: found character that cannot start any token"},
		{"two documents", minimal + "---\n" + minimal, "dtz.yaml:2: this file: more than one document"},
		{"a second document that is no YAML", minimal + "---\n[\n", "dtz.yaml:3: this file: "},
		{"no text", minimal + "\x00\x01", "dtz.yaml:2: this file: control characters are not allowed"},
		{"not UTF-8", minimal + "\n\xff\xff", "dtz.yaml:3: this file: "},
		{"half a list", "[", "dtz.yaml:1: this file: "},
		{"a password that is an alias", minimal + "registry: {http: {secret: *canary}}\n", "dtz.yaml:2: this file: an alias to nothing"},
	} {
		if c, _, err := parse("dtz.yaml", tt.text); err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %+v, %v, want %s", tt.name, c, err, tt.want)
		}
	}
}

func TestEverybodyIsATrustedProxy(t *testing.T) {
	_, warnings, err := parse("dtz.yaml", minimal+"trusted_proxies: [10.0.0.1, 0.0.0.0/0]\n")
	if err != nil || len(warnings) != 1 || !strings.HasPrefix(string(warnings[0]), "dtz.yaml:2: trusted_proxies[1]: whoever connects") {
		t.Errorf("warnings %v, %v, want one", warnings, err)
	}
}

func TestNoFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "nowhere.yaml")
	if _, _, err := Load(name); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("Load = %v, want an error that names the file", err)
	}
}

// The refusal of a key quotes no value: there may be a secret in it.
func TestErrorsQuoteNoSecret(t *testing.T) {
	const secret = "canary"
	for _, text := range []string{
		minimal + "registry: {http: {secret: {canary: canary}}}\n",
		minimal + "registry: {http: {secret: [canary]}}\n",
		minimal + "registry: {storage: {s3: {secretkey: canary, region: canary}}}\n",
		minimal + "registry: {version: 0.1, http: {secret: canary, draintimeout: canary}}\n",
	} {
		if _, _, err := parse("dtz.yaml", text); err != nil && strings.Contains(strings.ReplaceAll(err.Error(), "registry.http.secret.canary", ""), secret) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// breaks are what YAML 1.1 takes for an end of a line.
var breaks = strings.NewReplacer("\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n")

// Whatever the file says, the answer is a configuration that works, or an error
// that says where.
func FuzzParse(f *testing.F) {
	f.Add(whole)
	f.Add(minimal)
	f.Add(minimal + "registry: {storage: {s3: {region: here, bucket: images, secretkey: x}}, http: {secret: x, headers: {a: [b]}}}\n")
	f.Add("verification: {contexts: [\"*\"], roles: {pull: [\"https://dtz.rocks/{context_id}\"]}, leeway: 0s}\ntrusted_proxies: [::1]\n")
	f.Add(minimal + "registry: {storage: {filesystem: /x}}\n---\n\"a\\nb\": *c\n")
	f.Add("\xff\xfe( 00")
	f.Add("a: &a [*a]\n<<: {b: c}\n? [x]\n: y\n")
	f.Fuzz(func(t *testing.T, text string) {
		// Reading files is not what is tried here, and some, like a terminal,
		// never end.
		for _, setting := range []string{"keys", "deny_list", "certificate", "key"} {
			if strings.Contains(text, setting) && !strings.Contains(whole, text) {
				return
			}
		}
		c, _, err := parse("/dev/null/dtz.yaml", text)
		if err != nil {
			for problem := range strings.SplitSeq(err.Error(), "\n") {
				where, isThere := strings.CutPrefix(problem, "/dev/null/dtz.yaml:")
				number, _, _ := strings.Cut(where, ": ")
				line, err := strconv.Atoi(number)
				if !isThere || err != nil || line < 1 || line > 1+strings.Count(breaks.Replace(text), "\n") {
					t.Errorf("%q: %q names no line of the file", text, problem)
				}
			}
			return
		}
		v := c.Verification
		if v.Issuer == "" || v.Audience == "" || len(v.Contexts) == 0 || slices.Contains(v.Contexts, "") || len(v.Roles.Admin) == 0 {
			t.Errorf("%q leaves a wall out: %+v", text, v)
		}
		c.Distribution()
	})
}
