package oauth

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// CheckBaseURL returns the identity service's base URL in its one spelling, so
// that two spellings do not make two logins: host in lower case, default port
// and trailing slash dropped. It must be https, or http to a literal loopback
// address, 127.0.0.0/8 or [::1]: a name, localhost too, can be made to point
// elsewhere. Its path has letters, digits and "-._~/" only (RFC 3986 §2.3), so
// that a shell which a browser's opener puts it into finds nothing to expand.
// Errors never quote it; there may be a password in it.
func CheckBaseURL(s string) (string, error) {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == '\\' || s[i] == '%' {
			return "", errors.New(`URL has a space, a "\", a "%" or characters beyond ASCII`)
		}
	}
	if strings.ContainsAny(s, "?#") {
		return "", errors.New("URL has a query or a fragment")
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "", errors.New("not a URL")
	case u.User != nil:
		return "", errors.New("URL has a user name in it")
	case u.Scheme != "https" && u.Scheme != "http":
		return "", errors.New("URL does not begin with https://")
	case u.Host == "":
		return "", errors.New("URL has no host")
	}
	host, isLoopback, ok := checkHost(u.Hostname())
	if !ok {
		return "", errors.New("URL's host is neither a name nor an address")
	}
	if u.Scheme == "http" && !isLoopback {
		return "", errors.New("http:// is for a literal loopback address only, such as 127.0.0.1; use https://")
	}
	port := u.Port()
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return "", errors.New("URL's port is not between 1 and 65535")
		}
		port = strconv.FormatUint(n, 10)
	}
	if port != "" && (u.Scheme != "https" || port != "443") && (u.Scheme != "http" || port != "80") {
		host = net.JoinHostPort(host, port)
	} else if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	p := strings.TrimRight(u.Path, "/")
	for i := range len(p) {
		if !isAlphanumeric(p[i]) && !strings.ContainsRune("-._~/", rune(p[i])) {
			return "", errors.New("URL's path has other characters than letters, digits and -._~/")
		}
	}
	if p != "" && path.Clean(p) != p {
		return "", errors.New(`URL's path has "//" or dots for a part`)
	}
	return u.Scheme + "://" + host + p, nil
}

// checkHost returns a host name in lower case or an address in its shortest
// form, without brackets.
func checkHost(s string) (host string, isLoopback, ok bool) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.String(), addr.IsLoopback() && !addr.Is4In6(), addr.Zone() == ""
	}
	if len(s) > 253 {
		return "", false, false
	}
	s = strings.ToLower(s)
	for label := range strings.SplitSeq(s, ".") {
		if label == "" {
			return "", false, false
		}
		for i := range len(label) {
			if c := label[i]; !isAlphanumeric(c) && c != '-' && c != '_' {
				return "", false, false
			}
		}
	}
	return s, false, true
}
