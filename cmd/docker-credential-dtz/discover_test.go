package main

import (
	"strings"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// What a registry says of itself is text from a stranger. Only an address on
// its own host may come of it.
func TestServerURLs(t *testing.T) {
	testenv.Need(t, "keychain")
	p := newPlace(t)
	if o := p.run(testPassword, "login", "--username", testUser, "--password-stdin"); o.code != exitOK {
		t.Fatalf("login: %+v", o)
	}
	tests := []struct {
		name      string
		serverURL string
		added     config.Address // "": none
		named     string         // another host, for the person to decide
	}{
		{name: "a port and an image", serverURL: "cr.dtz.rocks:3214/image-name:v1", added: "cr.dtz.rocks:3214"},
		{name: "https", serverURL: "https://cr.dtz.rocks:3214", added: "cr.dtz.rocks:3214"},
		{name: "upper case", serverURL: "HTTPS://CR.DTZ.ROCKS:3214/", added: "cr.dtz.rocks:3214"},
		{name: "the highest port", serverURL: "cr.dtz.rocks:65535", added: "cr.dtz.rocks:65535"},
		{name: "the address that was asked", serverURL: "cr.dtz.rocks"},
		{name: "the address that was asked, spelled out", serverURL: "https://cr.dtz.rocks:443/v2/"},
		{name: "nothing", serverURL: ""},
		{name: "another host", serverURL: "evil.example", named: "evil.example"},
		{name: "another host with a port and a path", serverURL: "evil.example:3214/cr.dtz.rocks", named: "evil.example:3214"},
		{name: "a sub-domain", serverURL: "eu.cr.dtz.rocks:3214", named: "eu.cr.dtz.rocks:3214"},
		{name: "the domain above", serverURL: "dtz.rocks", named: "dtz.rocks"},
		{name: "a host that begins like it", serverURL: "cr.dtz.rocks.evil.example", named: "cr.dtz.rocks.evil.example"},
		{name: "a host that ends like it", serverURL: "evilcr.dtz.rocks", named: "evilcr.dtz.rocks"},
		{name: "this machine", serverURL: "127.0.0.1:3214", named: "127.0.0.1:3214"},
		{name: "another script's letters, encoded", serverURL: "xn--cr-8la.dtz.rocks", named: "xn--cr-8la.dtz.rocks"},
		{name: "another script's letters", serverURL: "cr.dtz.rоcks:3214"},
		{name: "an address as user information", serverURL: "https://cr.dtz.rocks:3214@evil.example/"},
		{name: "user information", serverURL: "https://user:password@cr.dtz.rocks:3214"},
		{name: "http", serverURL: "http://cr.dtz.rocks:3214"},
		{name: "another scheme", serverURL: "ftp://cr.dtz.rocks:3214"},
		{name: "a scheme alone", serverURL: "https://"},
		{name: "no scheme, but slashes", serverURL: "//cr.dtz.rocks:3214"},
		{name: "a trailing dot", serverURL: "cr.dtz.rocks.:3214"},
		{name: "port 0", serverURL: "cr.dtz.rocks:0"},
		{name: "a port beyond the last", serverURL: "cr.dtz.rocks:65536"},
		{name: "a port without digits", serverURL: "cr.dtz.rocks:"},
		{name: "a port with a sign", serverURL: "cr.dtz.rocks:+3214"},
		{name: "a line break", serverURL: "cr.dtz.rocks:3214\nevil.example"},
		{name: "an escape sequence", serverURL: "\x1b[2Jcr.dtz.rocks:3214"},
		{name: "text that turns around", serverURL: "cr.dtz.rocks:3214\u202e"},
		{name: "a backslash", serverURL: `cr.dtz.rocks:3214\@evil.example`},
		{name: "per cent", serverURL: "cr.dtz.rocks%2eevil.example:3214"},
		{name: "a query", serverURL: "cr.dtz.rocks:3214?x=y"},
		{name: "blanks around", serverURL: " cr.dtz.rocks:3214 "},
		{name: "more than an address has", serverURL: "cr.dtz.rocks:3214/" + strings.Repeat("a", 2000)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p.registries.answer("context-abc12345", tt.serverURL)
			o := p.run("", "configure", "--verbose")
			conf, err := config.Load(p.home + "/.config/docker-credential-dtz/config.json")
			if o.code != exitOK || err != nil {
				t.Fatalf("configure: %+v, %v", o, err)
			}
			delete(conf.Bindings, "cr.dtz.rocks")
			if tt.added == "" && len(conf.Bindings) > 0 {
				t.Errorf("bound: %+v", conf.Bindings)
			}
			if b, bound := conf.Bindings[tt.added]; tt.added != "" && (!bound || b.Context != "context-abc12345" || b.Profile != "default" || len(conf.Bindings) != 1) {
				t.Errorf("bound: %+v, want %s in its context; it says %q", conf.Bindings, tt.added, o.stderr)
			}
			if says := strings.Contains(o.stderr, "names "+tt.named+" for images of context-abc12345. That is another host"); says != (tt.named != "") {
				t.Errorf("it says %q", o.stderr)
			}
			if strings.ContainsAny(o.stderr, "\x1b\u202e") || strings.Contains(o.stderr, "password") {
				t.Errorf("it says %q", o.stderr)
			}
			if o := p.run("", "unconfigure"); o.code != exitOK {
				t.Fatalf("unconfigure: %+v", o)
			}
		})
	}
}
