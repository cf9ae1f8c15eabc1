package oauth

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

var baseURLs = []struct {
	name string
	url  string
	want string // empty: an error
}{
	{"the platform's", "https://identity.dtz.rocks/api/2021-02-21", "https://identity.dtz.rocks/api/2021-02-21"},
	{"a trailing slash", "https://identity.dtz.rocks/api/", "https://identity.dtz.rocks/api"},
	{"several", "https://identity.dtz.rocks//", "https://identity.dtz.rocks"},
	{"upper case", "HTTPS://Identity.DTZ.rocks/API", "https://identity.dtz.rocks/API"},
	{"the default port", "https://identity.dtz.rocks:443/api", "https://identity.dtz.rocks/api"},
	{"the default port with zeros before it", "https://identity.dtz.rocks:00443", "https://identity.dtz.rocks"},
	{"an empty port", "https://identity.dtz.rocks:/api", "https://identity.dtz.rocks/api"},
	{"another port", "https://identity.dtz.rocks:8443", "https://identity.dtz.rocks:8443"},
	{"http's port with https", "https://identity.dtz.rocks:80", "https://identity.dtz.rocks:80"},
	{"https to an address", "https://192.0.2.1/api", "https://192.0.2.1/api"},
	{"https to an IPv6 address", "https://[2001:DB8:0::1]:8443", "https://[2001:db8::1]:8443"},
	{"https to localhost", "https://localhost:8443", "https://localhost:8443"},
	{"all that a path may have", "https://identity.dtz.rocks/a-Z_0.9~x/y", "https://identity.dtz.rocks/a-Z_0.9~x/y"},
	{"http to loopback", "http://127.0.0.1:8080/api", "http://127.0.0.1:8080/api"},
	{"http to loopback's default port", "http://127.0.0.1:80/api", "http://127.0.0.1/api"},
	{"http to another loopback address", "http://127.9.8.7", "http://127.9.8.7"},
	{"http to IPv6 loopback", "http://[::1]:8080", "http://[::1]:8080"},
	{"http to it, spelled out", "http://[0:0:0:0:0:0:0:1]", "http://[::1]"},

	{"nothing", "", ""},
	{"no scheme", "identity.dtz.rocks", ""},
	{"no host", "https:///api", ""},
	{"a port without a host", "https://:443", ""},
	{"another scheme", "ftp://identity.dtz.rocks", ""},
	{"a file", "file:///etc/passwd", ""},
	{"an opaque URL", "https:identity.dtz.rocks", ""},
	{"http to a name", "http://identity.dtz.rocks", ""},
	{"http to localhost, which is a name", "http://localhost:8080", ""},
	{"http to a name that looks like loopback", "http://127.0.0.1.evil.example", ""},
	{"http to an address", "http://192.0.2.1", ""},
	{"http to all addresses", "http://0.0.0.0:8080", ""},
	{"http to loopback in short", "http://127.1", ""},
	{"http to loopback in octal", "http://0177.0.0.1", ""},
	{"http to loopback as a number", "http://2130706433", ""},
	{"http to loopback in IPv6's clothes", "http://[::ffff:127.0.0.1]", ""},
	{"http to IPv6 loopback with a zone", "http://[::1%25lo]", ""},
	{"a user name", "https://alice@identity.dtz.rocks", ""},
	{"a user name and password", "https://alice:c4nary@identity.dtz.rocks", ""},
	{"an empty user name", "https://@identity.dtz.rocks", ""},
	{"loopback as the user name", "http://127.0.0.1@evil.example", ""},
	{"a query", "https://identity.dtz.rocks/?c4nary", ""},
	{"an empty query", "https://identity.dtz.rocks/?", ""},
	{"a fragment", "https://identity.dtz.rocks/#c4nary", ""},
	{"an empty fragment", "https://identity.dtz.rocks/#", ""},
	{"a space before it", " https://identity.dtz.rocks", ""},
	{"a line break behind it", "https://identity.dtz.rocks\n", ""},
	{"an escape sequence", "https://identity.dtz.rocks/\x1b[2J", ""},
	{"a NUL", "https://identity.dtz.rocks\x00.evil.example", ""},
	{"a backslash", `https://identity.dtz.rocks\@evil.example`, ""},
	{"a percent sign in the host", "https://identity%2edtz.rocks", ""},
	{"a percent sign in the path", "https://identity.dtz.rocks/%2e%2e/", ""},
	{"letters beyond ASCII in the host", "https://identität.dtz.rocks", ""},
	{"letters beyond ASCII in the path", "https://identity.dtz.rocks/ä", ""},
	{"punctuation in the host", "https://identity,dtz.rocks", ""},
	{"a user name in the path", "https://identity.dtz.rocks/a@b", ""},
	{"a command for PowerShell in the path", "https://identity.dtz.rocks/$(c4nary)", ""},
	{"a command for PowerShell in the host", "https://$(c4nary).dtz.rocks", ""},
	{"a command for PowerShell for a port", "https://identity.dtz.rocks:$(c4nary)", ""},
	{"a command for PowerShell for a zone", "https://[fe80::1%25$(c4nary)]", ""},
	{"a command for PowerShell in brackets", "https://[$(c4nary)]", ""},
	{"a command for a shell in the path", "https://identity.dtz.rocks/`c4nary`", ""},
	{"a command for a shell in the host", "https://`c4nary`", ""},
	{"a variable", "https://identity.dtz.rocks/$HOME", ""},
	{"an end of double quotes", `https://identity.dtz.rocks/"c4nary`, ""},
	{"an end of quotes", "https://identity.dtz.rocks/'c4nary", ""},
	{"the next command", "https://identity.dtz.rocks/;c4nary", ""},
	{"the next command of cmd.exe", "https://identity.dtz.rocks/&c4nary", ""},
	{"a pipe", "https://identity.dtz.rocks/|c4nary", ""},
	{"a file written", "https://identity.dtz.rocks/>c4nary", ""},
	{"a word in braces", "https://identity.dtz.rocks/{c4nary}", ""},
	{"cmd.exe's escape", "https://identity.dtz.rocks/^c4nary", ""},
	{"a history of commands", "https://identity.dtz.rocks/!c4nary", ""},
	{"a trailing dot", "https://identity.dtz.rocks.", ""},
	{"an empty label", "https://identity..rocks", ""},
	{"port 0", "https://identity.dtz.rocks:0", ""},
	{"port 65536", "https://identity.dtz.rocks:65536", ""},
	{"a port that is a word", "https://identity.dtz.rocks:https", ""},
	{"two ports", "https://identity.dtz.rocks:443:443", ""},
	{"dots for a part of the path", "https://identity.dtz.rocks/api/../x", ""},
	{"an empty part of the path", "https://identity.dtz.rocks/api//x", ""},
	{"an open bracket", "https://[::1", ""},
	{"a host longer than DNS has", "https://" + strings.Repeat("a.", 127) + "rocks", ""},
}

func TestCheckBaseURL(t *testing.T) {
	for _, tt := range baseURLs {
		got, err := CheckBaseURL(tt.url)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: CheckBaseURL(%q) = %q, %v, want %q", tt.name, tt.url, got, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "c4nary") {
			t.Errorf("%s: error %q quotes the URL", tt.name, err)
		}
	}
}

func FuzzCheckBaseURL(f *testing.F) {
	for _, tt := range baseURLs {
		f.Add(tt.url)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := CheckBaseURL(s)
		if err != nil {
			return
		}
		if again, err := CheckBaseURL(got); err != nil || again != got {
			t.Errorf("CheckBaseURL(%q) = %q, which it takes for %q, %v", s, got, again, err)
		}
		if i := strings.IndexFunc(s, expandable); i >= 0 {
			t.Errorf("CheckBaseURL(%q) takes %q, which a shell may expand", s, s[i])
		}
		u, err := url.Parse(got)
		if err != nil {
			t.Fatalf("CheckBaseURL(%q) = %q: %v", s, got, err)
		}
		if u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(got, "/") {
			t.Errorf("CheckBaseURL(%q) = %q, want scheme, host and path only", s, got)
		}
		if u.Scheme != "https" {
			addr, err := netip.ParseAddr(u.Hostname())
			if err != nil || !addr.IsLoopback() {
				t.Errorf("CheckBaseURL(%q) = %q, want https or loopback", s, got)
			}
		}
	})
}

// expandable reports whether a shell may take r, in double quotes or in none,
// for more than itself. A path's, a query's and an address's characters are all
// let pass.
func expandable(r rune) bool {
	return r > '~' || !isAlphanumeric(byte(r)) && !strings.ContainsRune("-._~/:[]?%&=+", r)
}
