package config

import (
	"strings"
	"testing"
)

// spellings of an address, and what each is to us; "" is not an address.
var spellings = []struct {
	name string
	in   string
	want Address
}{
	{"bare, as Docker writes it", "cr.dtz.rocks", "cr.dtz.rocks"},
	{"with https", "https://cr.dtz.rocks", "cr.dtz.rocks"},
	{"with https and a slash", "https://cr.dtz.rocks/", "cr.dtz.rocks"},
	{"with https and a path", "https://cr.dtz.rocks/v2/", "cr.dtz.rocks"},
	{"with a path alone", "cr.dtz.rocks/team/image", "cr.dtz.rocks"},
	{"with a colon in its path", "cr.dtz.rocks/image:v1", "cr.dtz.rocks"},
	{"with a scheme in its path", "cr.dtz.rocks/https://evil.com", "cr.dtz.rocks"},
	{"with an at sign in its path", "https://cr.dtz.rocks/a@b", "cr.dtz.rocks"},
	{"in upper case", "CR.DTZ.ROCKS", "cr.dtz.rocks"},
	{"in upper case with its port", "CR.DTZ.ROCKS:443", "cr.dtz.rocks"},
	{"its scheme in upper case", "HTTPS://cr.dtz.rocks", "cr.dtz.rocks"},
	{"with the port that is meant anyway", "cr.dtz.rocks:443", "cr.dtz.rocks"},
	{"with another port", "cr.dtz.rocks:3214", "cr.dtz.rocks:3214"},
	{"with https and another port", "https://cr.dtz.rocks:3214/v2/", "cr.dtz.rocks:3214"},
	{"the highest port", "cr.dtz.rocks:65535", "cr.dtz.rocks:65535"},
	{"loopback", "127.0.0.1:5000", "127.0.0.1:5000"},
	{"loopback with http", "http://127.0.0.1:5000", "127.0.0.1:5000"},
	{"loopback with http and no port", "http://127.0.0.1", "127.0.0.1:80"},
	{"another loopback address with http", "http://127.9.9.9:5000/v2/", "127.9.9.9:5000"},
	{"IPv6 loopback with http", "http://[::1]:5000", "[::1]:5000"},
	{"IPv6 in a longer spelling", "[0:0:0:0:0:0:0:1]:5000", "[::1]:5000"},
	{"IPv6 without a port", "[::1]", "[::1]"},
	{"localhost by name", "localhost:5000", "localhost:5000"},
	{"a host of a container network", "my_registry:5000", "my_registry:5000"},
	{"another host", "cr.dtz.rocks.evil.com", "cr.dtz.rocks.evil.com"},
	{"a host that ends like ours", "evilcr.dtz.rocks", "evilcr.dtz.rocks"},
	{"punycode", "xn--cr-dtz-9qa.rocks", "xn--cr-dtz-9qa.rocks"},

	{"user information", "https://cr.dtz.rocks@evil.com", ""},
	{"user information without a scheme", "cr.dtz.rocks@evil.com", ""},
	{"user and password", "https://a:b@cr.dtz.rocks", ""},
	{"http for a host that is not loopback", "http://cr.dtz.rocks", ""},
	{"http for localhost by name", "http://localhost:5000", ""},
	{"http for an address that begins like loopback", "http://127.0.0.1.evil.com", ""},
	{"http for a shortened loopback address", "http://127.1:5000", ""},
	{"another scheme", "ftp://cr.dtz.rocks", ""},
	{"a scheme without its slashes", "https:cr.dtz.rocks", ""},
	{"a scheme twice", "https://https://cr.dtz.rocks", ""},
	{"no scheme before the slashes", "://cr.dtz.rocks", ""},
	{"slashes alone", "//cr.dtz.rocks", ""},
	{"a trailing dot", "cr.dtz.rocks.", ""},
	{"a trailing dot before the port", "cr.dtz.rocks.:443", ""},
	{"a leading dot", ".cr.dtz.rocks", ""},
	{"an empty label", "cr..dtz.rocks", ""},
	{"port zero", "cr.dtz.rocks:0", ""},
	{"a port too high", "cr.dtz.rocks:65536", ""},
	{"a port that wraps around", "cr.dtz.rocks:4294967739", ""},
	{"a negative port", "cr.dtz.rocks:-443", ""},
	{"a port with a sign", "cr.dtz.rocks:+443", ""},
	{"a port with a leading zero", "cr.dtz.rocks:0443", ""},
	{"a colon without a port", "cr.dtz.rocks:", ""},
	{"two ports", "cr.dtz.rocks:443:443", ""},
	{"a second line", "cr.dtz.rocks\nevil.com", ""},
	{"a line break at the end", "cr.dtz.rocks\n", ""},
	{"a carriage return", "cr.dtz.rocks\r", ""},
	{"a NUL", "cr.dtz.rocks\x00.evil.com", ""},
	{"a tab", "cr.dtz\t.rocks", ""},
	{"a space before", " cr.dtz.rocks", ""},
	{"a DEL", "cr.dtz.rocks\x7f", ""},
	{"an escape", "cr.dtz.rocks%2eevil.com", ""},
	{"an IPv6 zone", "[fe80::1%25eth0]:5000", ""},
	{"a backslash", `cr.dtz.rocks\@evil.com`, ""},
	{"a query", "cr.dtz.rocks?host=evil.com", ""},
	{"a fragment", "evil.com#cr.dtz.rocks", ""},
	{"a letter that is not ASCII", "cr.dtz.r\u043ecks", ""},
	{"a full-width dot", "cr\uff0edtz.rocks", ""},
	{"a wildcard", "*.dtz.rocks", ""},
	{"an option", "-cr.dtz.rocks", ""},
	{"IPv6 without brackets", "::1", ""},
	{"brackets left open", "[::1", ""},
	{"IPv4 in brackets", "[127.0.0.1]:5000", ""},
	{"nothing", "", ""},
	{"a scheme alone", "https://", ""},
	{"a label too long", strings.Repeat("a", 64) + ".rocks", ""},
	{"a host too long", strings.Repeat("a.", 130) + "rocks", ""},
}

func TestParseAddress(t *testing.T) {
	for _, tt := range spellings {
		got, err := ParseAddress(tt.in)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: ParseAddress(%q) = %q, %v, want %q", tt.name, tt.in, got, err, tt.want)
		}
	}
}

func TestIsPlatform(t *testing.T) {
	for address, want := range map[Address]bool{
		"cr.dtz.rocks":          true,
		"cr.dtz.rocks:3214":     true,
		"cr.dtz.rocks.evil.com": false,
		"evilcr.dtz.rocks":      false,
		"127.0.0.1:5000":        false,
		"":                      false,
	} {
		if got := address.IsPlatform(); got != want {
			t.Errorf("%q.IsPlatform() = %v, want %v", address, got, want)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, tt := range spellings {
		f.Add(tt.in)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			if a != "" {
				t.Fatalf("ParseAddress(%q) = %q with the error %v", s, a, err)
			}
			return
		}
		again, err := ParseAddress(string(a))
		if err != nil || again != a {
			t.Fatalf("ParseAddress(%q) = %q, which parses as %q, %v", s, a, again, err)
		}
		if strings.ContainsAny(string(a), "@/\\% \n\r\x00") || strings.ToLower(string(a)) != string(a) {
			t.Fatalf("ParseAddress(%q) = %q", s, a)
		}
	})
}
