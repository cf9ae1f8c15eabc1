package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
)

func TestLoadWithoutFileBindsThePlatformsRegistry(t *testing.T) {
	c, err := Load(filepath.Join(t.TempDir(), "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	want := Binding{Identity: "https://identity.dtz.rocks/api/2021-02-21", Profile: "default"}
	for _, address := range []Address{"cr.dtz.rocks", "cr.dtz.rocks:3214"} {
		if got, found := c.Lookup(address); !found || got != want {
			t.Errorf("Lookup(%q) = %+v, %v, want %+v", address, got, found, want)
		}
	}
	for _, address := range []Address{"cr.dtz.rocks.evil.com", "127.0.0.1:5000"} {
		if got, found := c.Lookup(address); found {
			t.Errorf("Lookup(%q) = %+v, want none", address, got)
		}
	}
}

func TestLookupPrefersAPortsOwnBinding(t *testing.T) {
	c := builtin()
	own := Binding{Identity: "https://identity.example", Profile: "work"}
	c.Bindings["cr.dtz.rocks:3214"] = own
	if got, _ := c.Lookup("cr.dtz.rocks:3214"); got != own {
		t.Errorf("Lookup(cr.dtz.rocks:3214) = %+v, want its own binding", got)
	}
	if got, _ := c.Lookup("cr.dtz.rocks:3215"); got.Profile != DefaultProfile {
		t.Errorf("Lookup(cr.dtz.rocks:3215) = %+v, want the host's binding", got)
	}
	c.Bindings["example.com"] = own
	if _, found := c.Lookup("example.com:5000"); found {
		t.Error("a binding of another host without a port serves its other ports")
	}
}

func TestUpdateKeepsWhatItWrote(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "config.json")
	err := Update(t.Context(), path, func(c *Config) error {
		c.SetPlace(Login{"https://identity.example", "work", "file"})
		c.SetPlace(Login{"https://identity.example", "work", "keychain"})
		c.Bindings["127.0.0.1:5000"] = Binding{"https://identity.example", "work", "context-abc12345", "/run/key", false, ""}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Bindings["127.0.0.1:5000"]; got != (Binding{"https://identity.example", "work", "context-abc12345", "/run/key", false, ""}) {
		t.Errorf("binding = %+v", got)
	}
	if _, found := c.Bindings["cr.dtz.rocks"]; !found {
		t.Error("the built-in binding was lost by the first change")
	}
	if !slices.Equal(c.Logins, []Login{{"https://identity.example", "work", "keychain"}}) {
		t.Errorf("logins = %+v, want one, in its newer place", c.Logins)
	}

	if err := Update(t.Context(), path, func(c *Config) error {
		c.Bindings["127.0.0.1:6000"] = Binding{Identity: "https://identity.example", Profile: "work"}
		c.Forget("https://identity.example", "work")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	c, err = Load(path)
	if err != nil {
		t.Fatal(err)
	}
	served := c.Served("https://identity.example", "work")
	if len(c.Logins) != 0 || !slices.Equal(served, []Address{"127.0.0.1:5000", "127.0.0.1:6000"}) {
		t.Errorf("after Forget: %+v, want no login and its two addresses", c)
	}
}

// A login that is forgotten leaves its addresses bound, but the platform's
// registry to no service but the platform's.
func TestForget(t *testing.T) {
	for _, tt := range []struct {
		identity string
		want     []Address
	}{
		{platform.IdentityURL, []Address{"127.0.0.1:5000", "cr.dtz.rocks", "cr.dtz.rocks:3214", "cr.dtz.rocks:4000"}},
		{"http://127.0.0.1:5001", []Address{"127.0.0.1:5000", "cr.dtz.rocks:4000"}},
	} {
		bound := Binding{Identity: tt.identity, Profile: "work", Context: "context-abc12345"}
		withKey := bound
		withKey.APIKeyFile = "/run/key"
		c := &Config{
			Logins: []Login{{tt.identity, "work", "keychain"}, {tt.identity, "home", "keychain"}},
			Bindings: map[Address]Binding{
				"127.0.0.1:5000": bound, "cr.dtz.rocks": bound, "cr.dtz.rocks:3214": bound, "cr.dtz.rocks:4000": withKey,
				"127.0.0.1:6000": {Identity: tt.identity, Profile: "home"},
			},
		}
		c.Forget(tt.identity, "work")
		if got := c.Served(tt.identity, "work"); !slices.Equal(got, tt.want) {
			t.Errorf("of a login at %s are still bound %v, want %v", tt.identity, got, tt.want)
		}
		if len(c.Logins) != 1 || c.Bindings["127.0.0.1:5000"] != bound || len(c.Served(tt.identity, "home")) != 1 {
			t.Errorf("after Forget: %+v", c)
		}
	}
}

func TestUnbindTakesBackWhatBindMade(t *testing.T) {
	login := Binding{Identity: "https://identity.example", Profile: "work"}
	tests := []struct {
		name    string
		address Address
		keyFile string
		bound   Binding // by Bind
	}{
		{"a new address", "127.0.0.1:6000", "", Binding{Identity: "https://other.example", Profile: "home", ByConfigure: true}},
		{"a new address with a key", "127.0.0.1:6000", "/run/key", Binding{Identity: "https://other.example", Profile: "home", APIKeyFile: "/run/key", ByConfigure: true}},
		{"a login's address", "127.0.0.1:5000", "", login},
		{"a login's address with a key", "127.0.0.1:5000", "/run/key", Binding{Identity: login.Identity, Profile: login.Profile, APIKeyFile: "/run/key"}},
		{
			"a port of the platform's, with a key", "cr.dtz.rocks:3214", "/run/key",
			Binding{Identity: "https://identity.dtz.rocks/api/2021-02-21", Profile: "default", APIKeyFile: "/run/key", ByConfigure: true},
		},
		{"a port of the platform's, which has a binding", "cr.dtz.rocks:3214", "", Binding{Identity: "https://identity.dtz.rocks/api/2021-02-21", Profile: "default"}},
	}
	for _, tt := range tests {
		c := builtin()
		c.Bindings["127.0.0.1:5000"] = login
		before := maps.Clone(c.Bindings)
		c.Bind(tt.address, "https://other.example", "home", tt.keyFile)
		if got, _ := c.Lookup(tt.address); got != tt.bound {
			t.Errorf("%s: bound as %+v, want %+v", tt.name, got, tt.bound)
		}
		c.Unbind(tt.address)
		if !maps.Equal(c.Bindings, before) {
			t.Errorf("%s: after Unbind %+v, want %+v", tt.name, c.Bindings, before)
		}
	}
}

// A password for the platform would reach the other identity service.
func TestBindLeavesThePlatformsRegistryWhereItBelongs(t *testing.T) {
	const test, platforms = "https://test.example", "https://identity.dtz.rocks/api/2021-02-21"
	tests := []struct {
		name    string
		bound   map[Address]Binding
		address Address
		want    string // identity service
	}{
		{"nothing bound", nil, "cr.dtz.rocks", platforms},
		{"nothing bound, and a port", nil, "cr.dtz.rocks:3215", platforms},
		{"another port bound elsewhere", map[Address]Binding{"cr.dtz.rocks:3214": {Identity: test, Profile: "p"}}, "cr.dtz.rocks:3215", platforms},
		{"bound elsewhere by a login", map[Address]Binding{"cr.dtz.rocks": {Identity: test, Profile: "p"}}, "cr.dtz.rocks", test},
		{"a port, its host bound elsewhere by a login", map[Address]Binding{"cr.dtz.rocks": {Identity: test, Profile: "p"}}, "cr.dtz.rocks:3215", test},
		{"another registry", nil, "registry.example", test},
	}
	for _, tt := range tests {
		for _, keyFile := range []string{"", "/run/key"} {
			c := &Config{Bindings: map[Address]Binding{}}
			maps.Copy(c.Bindings, tt.bound)
			if got := c.IdentityOf(tt.address); tt.address.IsPlatform() && got != tt.want {
				t.Errorf("%s: IdentityOf(%s) = %q, want %q", tt.name, tt.address, got, tt.want)
			}
			c.Bind(tt.address, test, "p", keyFile)
			if b, _ := c.Lookup(tt.address); b.Identity != tt.want || b.Profile != "p" {
				t.Errorf("%s, key file %q: bound as %+v, want %s", tt.name, keyFile, b, tt.want)
			}
		}
	}
}

func TestPreviewIsWhatUpdateWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	nothing := func(*Config) error { return nil }
	bind := func(c *Config) error {
		c.Bind("127.0.0.1:5000", "https://identity.example", "work", "")
		c.Origins = map[string]Origin{"/home/me/.docker/config.json": {"members", "{ }"}}
		return nil
	}
	for _, path := range []string{path, ""} {
		if before, after, err := Preview(path, nothing); before != nil || after != nil || err != nil {
			t.Errorf("without a file and a change: Preview = %q, %q, %v", before, after, err)
		}
	}
	before, after, err := Preview(path, bind)
	if before != nil || after == nil || err != nil {
		t.Errorf("Preview = %q, %q, %v, want a new file", before, after, err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Preview wrote a file: %v", err)
	}
	if err := Update(t.Context(), path, bind); err != nil {
		t.Fatal(err)
	}
	if before, again, err := Preview(path, bind); string(before) != string(after) || string(again) != string(after) || err != nil {
		t.Errorf("the file holds %q and would hold %q, %v, want %q", before, again, err, after)
	}
}

func TestUpdateFollowsALink(t *testing.T) {
	target, link := filepath.Join(t.TempDir(), "dotfiles.json"), filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(target, []byte(`{"version":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, link); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	if err := Update(t.Context(), link, func(c *Config) error {
		c.SetPlace(Login{"https://identity.example", "work", "file"})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v, %v", info.Mode(), err)
	}
	if c, err := Load(target); err != nil || len(c.Logins) != 1 {
		t.Errorf("the link's target holds %+v, %v", c, err)
	}
}

func TestUpdateThatFailsChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	refusal := errors.New("no")
	err := Update(t.Context(), path, func(c *Config) error {
		delete(c.Bindings, "cr.dtz.rocks")
		return refusal
	})
	if !errors.Is(err, refusal) {
		t.Fatalf("Update = %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file was written: %v", err)
	}
}

func TestUpdatesAtOnceLoseNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	const n = 20
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			err := Update(context.Background(), path, func(c *Config) error {
				c.Bindings[Address(fmt.Sprintf("127.0.0.1:%d", 5000+i))] = Binding{Identity: "https://identity.example", Profile: "work"}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(c.Served("https://identity.example", "work")); got != n {
		t.Errorf("%d bindings, want %d", got, n)
	}
}

// damaged are files that must be refused, with a part of what is said.
var damaged = []struct{ name, content, want string }{
	{"not JSON", `{"version": 1,`, "unexpected end"},
	{"empty", ``, "unexpected end"},
	{"a newer version", `{"version": 2, "future": true}`, "another version"},
	{"no version", `{}`, "another version"},
	{"an unknown key", `{"version": 1, "binding": {}}`, "another version of this program"},
	{"an address not in its canonical spelling", `{"version":1,"bindings":{"https://cr.dtz.rocks":{"identity":"https://i","profile":"p"}}}`, "canonical"},
	{"a binding without an identity", `{"version":1,"bindings":{"cr.dtz.rocks":{"profile":"p"}}}`, "lacks"},
	{"a login without a store", `{"version":1,"logins":[{"identity":"https://i","profile":"p"}]}`, "lacks"},
	{"too large", strings.Repeat(" ", maxSize+1), "over"},
}

func TestDamagedFileIsNamedAndLeftAlone(t *testing.T) {
	for _, tt := range damaged {
		path := filepath.Join(t.TempDir(), "config.json")
		if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		for how, err := range map[string]error{
			"Load":   func() error { _, err := Load(path); return err }(),
			"Update": Update(t.Context(), path, func(c *Config) error { clear(c.Bindings); return nil }),
		} {
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %s = %v, want an error with %q and the file's name", tt.name, how, err, tt.want)
			}
		}
		if got, _ := os.ReadFile(path); string(got) != tt.content {
			t.Errorf("%s: the file was changed to %q", tt.name, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, tt := range damaged {
		f.Add([]byte(tt.content))
	}
	valid, err := builtin().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(valid)
	for _, text := range []string{
		`{"version":1,"bindings":{"127.0.0.1:5000":{"identity":"https://i","profile":"p","context":"c","apiKeyFile":"/f","byConfigure":true,"namedBy":"127.0.0.1"}}}`,
		`{"version":1,"bindings":{"a:1":{"identity":"https://i","profile":"p"},"a:1":{"identity":"https://evil","profile":"p"}}}`,
		`{"version":1,"logins":[{"identity":"https://i","profile":"p","store":"file"},{"identity":"https://i","profile":"p","store":"keychain"}]}`,
		`{"version":1,"version":2}`, `{"VERSION":1}`, `{"version":1,"bindings":null,"origins":{"\u001b[31m":{"missing":"file","text":"\u202e"}}}`,
		`{"version":1,"bindings":{"A:1":{}}}`, `{"version":1,"bindings":{"u@a":{"identity":"i","profile":"p"}}}`, `{"version":1} {"version":1}`,
		`{"version":1,"origins":` + strings.Repeat("[", 100_000), "\xff\x00", "null",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := decode(data)
		if err != nil {
			return
		}
		for address, b := range c.Bindings {
			if canonical, err := ParseAddress(string(address)); err != nil || canonical != address || b.Identity == "" || b.Profile == "" {
				t.Fatalf("decode(%q) binds %q to %+v", data, address, b)
			}
			if got, found := c.Lookup(address); !found || got != b || !slices.Contains(c.Served(b.Identity, b.Profile), address) {
				t.Fatalf("decode(%q): %q is not served by its own binding", data, address)
			}
		}
		again, err := c.encode()
		if err != nil {
			t.Fatal(err)
		}
		same, err := decode(again)
		if err != nil {
			t.Fatalf("decode(%q) is written as %q, which is refused: %v", data, again, err)
		}
		if twice, err := same.encode(); err != nil || !bytes.Equal(twice, again) {
			t.Fatalf("decode(%q) is written as %q, and then as %q, %v", data, again, twice, err)
		}
		for _, l := range c.Logins {
			c.Forget(l.Identity, l.Profile)
			if _, found := c.Place(l.Identity, l.Profile); found {
				t.Fatalf("decode(%q): a login is forgotten and still there", data)
			}
		}
	})
}
