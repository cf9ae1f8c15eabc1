package config

import (
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

type spelling struct {
	name string
	in   string
	want Address // "" is not an address
}

// readSpellings reads the table that the helper's own tests go through too.
func readSpellings(t testing.TB) []spelling {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "addresses.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	var table []spelling
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		in, err := strconv.Unquote(fields[0])
		if err != nil || len(fields) != 3 {
			t.Fatalf("%q is no row: %v", line, err)
		}
		table = append(table, spelling{fields[2], in, Address(strings.TrimPrefix(fields[1], "-"))})
	}
	return table
}

func TestParseAddress(t *testing.T) {
	for _, tt := range readSpellings(t) {
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

func TestHost(t *testing.T) {
	for address, want := range map[Address]string{
		"cr.dtz.rocks": "cr.dtz.rocks", "cr.dtz.rocks:3214": "cr.dtz.rocks",
		"127.0.0.1:5000": "127.0.0.1", "[::1]": "[::1]", "[::1]:5000": "[::1]",
	} {
		if got := address.Host(); got != want || address.HasPort() != (want != string(address)) {
			t.Errorf("%q.Host() = %q, want %q", address, got, want)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, tt := range readSpellings(f) {
		f.Add(tt.in)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			if a != "" {
				t.Fatalf("ParseAddress(%q) = %q with the error %v", s, a, err)
			}
			if text := err.Error(); len(text) > 2000 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("ParseAddress(%q) = %q, want an error that can be shown", s, text)
			}
			return
		}
		again, err := ParseAddress(string(a))
		if err != nil || again != a {
			t.Fatalf("ParseAddress(%q) = %q, which parses as %q, %v", s, a, again, err)
		}
		if i := strings.IndexFunc(string(a), func(r rune) bool { return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-_.:[]", r) }); i >= 0 {
			t.Fatalf("ParseAddress(%q) = %q", s, a)
		}
		// Whoever reads it by the rules of URLs comes to the same host and port.
		spelled := s
		if scheme, _, found := strings.Cut(s, "://"); !found || strings.Contains(scheme, "/") {
			spelled = "https://" + s
		}
		u, err := url.Parse(spelled)
		if err != nil || u.User != nil {
			t.Fatalf("ParseAddress(%q) = %q, which is no URL or has user information: %v", s, a, err)
		}
		host, port := strings.ToLower(u.Hostname()), u.Port()
		if ip, err := netip.ParseAddr(host); err == nil {
			host = ip.String()
		}
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
		}
		if want := strings.TrimSuffix(net.JoinHostPort(host, port), ":443"); want != string(a) {
			t.Fatalf("ParseAddress(%q) = %q, and as a URL it is %q", s, a, want)
		}
		if ip, err := netip.ParseAddr(host); u.Scheme == "http" && (err != nil || !ip.IsLoopback()) {
			t.Fatalf("ParseAddress(%q) = %q, in the clear", s, a)
		}
	})
}
