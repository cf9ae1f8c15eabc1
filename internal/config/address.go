package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
)

// Address is a registry's host[:port] in its one canonical spelling: lower
// case, an IPv6 host in brackets, no port where it is 443.
type Address string

// errAddress is the base of every refusal of [ParseAddress].
var errAddress = errors.New("not a registry address")

// ParseAddress reads what Docker or a person writes for a registry: the bare
// address, https:// before it, a path behind it, upper case, :443; http:// only
// for a literal loopback address, where no port means 80. Everything else is
// refused rather than guessed at, because the answer decides who is given a
// token: user information, a trailing dot, a port out of range, control
// characters, %, \, non-ASCII, other schemes, more than one line.
func ParseAddress(s string) (Address, error) {
	refuse := func(why string) (Address, error) {
		return "", fmt.Errorf("%w: %s", errAddress, why)
	}
	if len(s) > 1024 {
		return refuse("too long")
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || strings.IndexByte(`%\?#`, c) >= 0 {
			r, _ := utf8.DecodeRuneInString(s[i:])
			return refuse(fmt.Sprintf("character %+q", r))
		}
	}
	rest, defaultPort := strings.ToLower(s), 443
	insecure := false
	if scheme, behind, found := strings.Cut(rest, "://"); found && !strings.Contains(scheme, "/") {
		rest = behind
		switch scheme {
		case "https":
		case "http":
			insecure, defaultPort = true, 80
		default:
			return refuse("scheme " + scheme)
		}
	}
	authority, _, _ := strings.Cut(rest, "/")
	if strings.Contains(authority, "@") {
		return refuse("user information")
	}
	host, port, err := splitPort(authority, defaultPort)
	if err != nil {
		return refuse(err.Error())
	}
	host, loopback, err := canonicalHost(host)
	if err != nil {
		return refuse(err.Error())
	}
	if insecure && !loopback {
		return refuse("http:// is for a literal loopback address only")
	}
	if port == 443 {
		return Address(host), nil
	}
	return Address(host + ":" + strconv.Itoa(port)), nil
}

func splitPort(authority string, defaultPort int) (host string, port int, err error) {
	end := strings.LastIndexByte(authority, ':')
	if end < 0 || strings.HasSuffix(authority, "]") {
		return authority, defaultPort, nil
	}
	digits := authority[end+1:]
	port, err = strconv.Atoi(digits)
	if err != nil || port < 1 || port > 65535 || strconv.Itoa(port) != digits {
		return "", 0, fmt.Errorf("port %q", digits)
	}
	return authority[:end], port, nil
}

// canonicalHost checks a lower-case host: an IP address, IPv6 in brackets, or a
// DNS name.
func canonicalHost(host string) (canonical string, loopback bool, err error) {
	if inner, found := strings.CutPrefix(host, "["); found {
		inner, closed := strings.CutSuffix(inner, "]")
		ip, err := netip.ParseAddr(inner)
		if !closed || err != nil || !ip.Is6() {
			return "", false, fmt.Errorf("host %q", host)
		}
		return "[" + ip.String() + "]", ip.IsLoopback(), nil
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is4() {
		return ip.String(), ip.IsLoopback(), nil
	}
	if len(host) > 253 {
		return "", false, errors.New("host too long")
	}
	for label := range strings.SplitSeq(host, ".") {
		if !isLabel(label) {
			return "", false, fmt.Errorf("host %q", host)
		}
	}
	return host, false, nil
}

// isLabel accepts RFC 1123 §2.1 host labels, and underscores, which container
// networks use in names.
func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// IsPlatform reports whether a is the platform's own registry, on any port.
func (a Address) IsPlatform() bool {
	return a == platform.RegistryHost || strings.HasPrefix(string(a), platform.RegistryHost+":")
}

// Host is the address without its port; an IPv6 address is in brackets.
func (a Address) Host() string {
	host, _, _ := splitPort(string(a), 0)
	return host
}

// HasPort reports whether the port is another than 443.
func (a Address) HasPort() bool { return a.Host() != string(a) }

func (a Address) String() string { return string(a) }
