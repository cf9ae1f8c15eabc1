package config

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
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

// Distribution's drivers pass over what they do not know in silence, so that
// what they know has to be known here.
func TestParametersAreTheDrivers(t *testing.T) {
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/distribution/distribution/v3").Output()
	if err != nil {
		t.Fatal("the source of distribution, which is compiled in, is not at hand: ", err)
	}
	name := regexp.MustCompile(`(?:parameters(?:\[|, ?)|mapstructure:)"([a-z0-9_]+)"`)
	for driver, kind := range map[string]string{"filesystem": "filesystem", "s3-aws": "s3", "gcs": "gcs", "azure": "azure"} {
		files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "registry/storage/driver", driver, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no source of %s (%v)", driver, err)
		}
		asked := map[string]bool{}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, found := range name.FindAllStringSubmatch(string(source), -1) {
				asked[found[1]] = true
			}
		}
		known := map[string]bool{}
		for _, name := range slices.Concat(parameters[kind], parameters[kind+".credentials"]) {
			known[name] = true
		}
		if !maps.Equal(asked, known) {
			t.Errorf("%s: known are %v, the driver asks for %v", kind, slices.Sorted(maps.Keys(known)), slices.Sorted(maps.Keys(asked)))
		}
	}
}

func TestEverybodyIsATrustedProxy(t *testing.T) {
	_, warnings, err := parse("dtz.yaml", minimal+"trusted_proxies: [10.0.0.1, 0.0.0.0/0]\n")
	if err != nil || len(warnings) != 1 || !strings.HasPrefix(string(warnings[0]), "dtz.yaml:2: trusted_proxies[1]: whoever connects") {
		t.Errorf("warnings %v, %v, want one", warnings, err)
	}
}

func TestEachCopyOfDistributionsIsItsOwn(t *testing.T) {
	c, _, err := parse("dtz.yaml", (minimal + "registry: {storage: {filesystem: {rootdirectory: /somewhere}}, http: {headers: {X-A: [b]}}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	first, second := c.Distribution(), c.Distribution()
	first.Storage["filesystem"]["rootdirectory"] = "/elsewhere"
	first.HTTP.Headers.Set("X-A", "c")
	if got := second.Storage.Parameters()["rootdirectory"]; got != "/somewhere" || second.HTTP.Headers.Get("X-A") != "b" {
		t.Errorf("the second copy changes with the first: %v", got)
	}
	if first.HTTP.Secret == "" || first.HTTP.Secret != second.HTTP.Secret {
		t.Error("the secret of uploads differs between two apps of one process")
	}
}

// Distribution's own program obeys these, so that somebody may count on them.
func TestVariablesThatDoNotCountAreNamed(t *testing.T) {
	t.Setenv("REGISTRY_AUTH_HTPASSWD_REALM", "x")
	t.Setenv("REGISTRY_HTTP_ADDR", ":5000")
	t.Setenv("REGISTRY_STORAGE_DELETE_ENABLED", "false")
	t.Setenv("REGISTRY_HTTP_SECRET", "which counts")
	t.Setenv("REGISTRY_PORT", "tcp://10.0.0.1:80") // as Kubernetes sets it
	_, warnings, err := parse("dtz.yaml", minimal)
	if err != nil || len(warnings) != 3 {
		t.Fatalf("%v, %v, want three warnings", warnings, err)
	}
	for i, want := range []string{"REGISTRY_AUTH_HTPASSWD_REALM", "REGISTRY_HTTP_ADDR", "REGISTRY_STORAGE_DELETE_ENABLED"} {
		if !strings.Contains(string(warnings[i]), want+" in the environment does not count: ") {
			t.Errorf("%s, want it to name %s", warnings[i], want)
		}
	}
}

func TestImagesHaveAPlace(t *testing.T) {
	for text, want := range map[string]any{
		minimal:                             defaultRoot,
		minimal + "registry: {storage: }\n": defaultRoot,
		minimal + "registry: {storage: {filesystem: }}":                         defaultRoot,
		minimal + "registry: {storage: {filesystem: {maxthreads: 50}}}":         defaultRoot,
		minimal + "registry: {storage: {filesystem: {rootdirectory: /images}}}": "/images",
	} {
		c, _, err := parse("dtz.yaml", text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := c.Distribution().Storage.Parameters()["rootdirectory"]; got != want {
			t.Errorf("%s: images lie in %v, want %v", text, got, want)
		}
	}
}

func TestSecretOfUploadsIsMissed(t *testing.T) {
	const s3 = "registry: {storage: {s3: {region: here, bucket: images}}"
	for text, want := range map[string]int{
		minimal:              0,
		minimal + s3 + "}\n": 1,
		minimal + s3 + ", http: {secret: of all}}\n":    0,
		minimal + "registry: {storage: {inmemory: }}\n": 0,
	} {
		if _, warnings, err := parse("dtz.yaml", text); err != nil || len(warnings) != want {
			t.Errorf("%s: warnings %v, %v, want %d", text, warnings, err, want)
		}
	}
}

// As with distribution's own program, secrets may come from the environment.
func TestEnvironment(t *testing.T) {
	t.Setenv("REGISTRY_HTTP_SECRET", "of all")
	t.Setenv("REGISTRY_STORAGE_S3_SECRETKEY", "canary")
	c, warnings, err := parse("dtz.yaml", minimal+"registry: {storage: {s3: {region: here, bucket: images}}}\n")
	if err != nil || len(warnings) > 0 {
		t.Fatalf("warnings %v, %v, want none", warnings, err)
	}
	// All apps of a process have one configuration, whatever becomes of it.
	t.Setenv("REGISTRY_HTTP_SECRET", "of nobody")
	if d := c.Distribution(); d.HTTP.Secret != "of all" || d.Storage.Parameters()["secretkey"] != "canary" {
		t.Error("the environment does not count")
	}
	_, _, err = parse("dtz.yaml", minimal)
	if err == nil || !strings.HasPrefix(err.Error(), "dtz.yaml:1: registry: ") || strings.Contains(err.Error(), "canary") {
		t.Errorf("a second kind of storage in the environment: %v, want an error", err)
	}
}

func TestFilesThatOthersMayChange(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no modes")
	}
	dir := t.TempDir()
	key := writeKey(t, filepath.Join(dir, "spare.pem"), 2048)
	deny := write(t, filepath.Join(dir, "deny.json"), "{}")
	certificate, tlsKey := writeCertificate(t, dir)
	file := write(t, filepath.Join(dir, "dtz.yaml"), `verification:
  contexts: ["*"]
  keys: [`+key+`]
  deny_list: `+deny+`
tls:
  certificate: `+certificate+`
  key: `+tlsKey+`
registry:
  http: {secret: of uploads}
`)
	if _, warnings, err := Load(file); err != nil || len(warnings) > 0 {
		t.Fatalf("Load = %v, %v, want nothing", warnings, err)
	}
	for name, line := range map[string]string{key: "3", deny: "4", certificate: "6", tlsKey: "7", file: "1"} {
		for _, mode := range []os.FileMode{0o602, 0o620} {
			chmod(t, name, mode)
			_, _, err := Load(file)
			if want := file + ":" + line + ": "; err == nil || !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "others may write "+name) {
				t.Errorf("%s of mode %o: %v, want an error at %s", filepath.Base(name), mode, err, want)
			}
		}
		chmod(t, name, 0o644)
		_, warnings, err := Load(file)
		isSecret := name == tlsKey || name == file
		if err != nil || (len(warnings) == 1) != isSecret {
			t.Errorf("%s that others may read: %v, %v, want a warning only if it is secret", filepath.Base(name), warnings, err)
		}
		chmod(t, name, 0o600)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	chmod(t, tlsKey, 0o644)
	if _, warnings, err := Load(file); err != nil || len(warnings) > 0 {
		t.Errorf("a key among the service's credentials: %v, %v, want nothing", warnings, err)
	}
	chmod(t, dir, 0o777)
	if _, _, err := Load(file); err == nil || !strings.Contains(err.Error(), "others may replace "+key) {
		t.Errorf("a folder that others may write: %v, want an error", err)
	}
	chmod(t, dir, 0o777|os.ModeSticky)
	if _, _, err := Load(file); err != nil {
		t.Errorf("a folder such as /tmp: %v, want no error", err)
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

func BenchmarkDistribution(b *testing.B) {
	c, _, err := parse("dtz.yaml", minimal)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		c.Distribution()
	}
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func mkdir(t *testing.T, dir, name string) string {
	t.Helper()
	name = filepath.Join(dir, name)
	if err := os.Mkdir(name, 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

func chmod(t *testing.T, name string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func writePEM(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	return write(t, name, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
}

// writeKey writes the public half of an RSA key.
func writeKey(t *testing.T, name string, bits int) string {
	t.Helper()
	public := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), bits-1, 1), E: 1<<16 + 1}
	return writePEM(t, name, "RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(public))
}

func writeTLSKey(t *testing.T, name string) (*ecdsa.PrivateKey, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, writePEM(t, name, "PRIVATE KEY", der)
}

func writeCertificate(t *testing.T, dir string) (certificate, key string) {
	t.Helper()
	private, key := writeTLSKey(t, filepath.Join(dir, "tls.key"))
	return writeCertificateOf(t, dir, private), key
}

func writeWeakCertificate(t *testing.T, dir string) (certificate, key string) {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	key = writePEM(t, filepath.Join(dir, "tls.key"), "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(private))
	return writeCertificateOf(t, dir, private), key
}

func writeCertificateOf(t *testing.T, dir string, private crypto.Signer) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, filepath.Join(dir, "tls.crt"), "CERTIFICATE", der)
}
