package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// A reader turns YAML into settings, and goes on where something is wrong, so
// that one run shows all of it.
type reader struct {
	file      string
	problems  []error
	warnings  []Warning
	hasSecret bool // so that the file is one itself
}

func (r *reader) problem(n *yaml.Node, path, format string, args ...any) {
	r.problems = append(r.problems, errors.New(r.say(n, path, format, args...)))
}

func (r *reader) warn(n *yaml.Node, path, format string, args ...any) {
	r.warnings = append(r.warnings, Warning(r.say(n, path, format, args...)))
}

// say is one line. Keys and names of files are whatever the file says, line
// breaks included.
func (r *reader) say(n *yaml.Node, path, format string, args ...any) string {
	return fmt.Sprintf("%s:%d: %s", r.file, n.Line, strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return '?'
		}
		return c
	}, path+": "+fmt.Sprintf(format, args...)))
}

// fields are what a mapping may hold.
type fields map[string]func(n *yaml.Node, path string)

// mapping reads each field that is there. Nothing at all is an empty mapping.
func (r *reader) mapping(n *yaml.Node, path string, known fields) (ok bool) {
	if isNull(n) {
		return true
	}
	if n.Kind != yaml.MappingNode {
		r.problem(n, or(path, "this file"), "want a mapping, like key: value")
		return false
	}
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := join(path, key.Value)
		read, ok := known[key.Value]
		switch {
		case key.Kind != yaml.ScalarNode || !ok || key.ShortTag() == "!!merge":
			r.problem(key, name, "unknown key")
		case lines[key.Value] > 0:
			r.problem(key, name, "again; it stands in line %d already", lines[key.Value])
		default:
			lines[key.Value] = key.Line
			read(value, name)
		}
	}
	return true
}

func isNull(n *yaml.Node) bool {
	return n == nil || n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// text is a string; nothing at all is an empty one.
func (r *reader) text(n *yaml.Node, path string) string {
	if isNull(n) {
		return ""
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		r.problem(n, path, "want a string")
		return ""
	}
	return n.Value
}

// required is a string that is not empty.
func (r *reader) required(n *yaml.Node, path string) string {
	before := len(r.problems)
	s := r.text(n, path)
	if s == "" && len(r.problems) == before {
		r.problem(n, path, "is empty; leave it out for the default")
	}
	return s
}

func (r *reader) boolean(n *yaml.Node, path string) bool {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!bool" {
		b, err := strconv.ParseBool(n.Value)
		if err == nil {
			return b
		}
	}
	r.problem(n, path, "want true or false")
	return false
}

// duration is from low to high.
func (r *reader) duration(n *yaml.Node, path string, low, high time.Duration) time.Duration {
	d, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil || d < low || d > high {
		r.problem(n, path, "want a duration from %v to %v, like 60s or 5m", low, high)
	}
	return d
}

// oneOf is what choices has for a string.
func oneOf[T any](r *reader, n *yaml.Node, path string, names []string, choices []T) (chosen T) {
	s := r.text(n, path)
	for i, name := range names {
		if name == s {
			return choices[i]
		}
	}
	r.problem(n, path, "want one of %v", names)
	return chosen
}

// each reads the elements of a sequence. Nothing at all is an empty one.
func (r *reader) each(n *yaml.Node, path string, read func(n *yaml.Node, path string)) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		r.problem(n, path, "want a list, like [a, b]")
		return
	}
	for i, element := range n.Content {
		read(element, fmt.Sprintf("%s[%d]", path, i))
	}
}

// address is host:port to listen on; without a host it is every interface.
func (r *reader) address(n *yaml.Node, path string) string {
	s := r.text(n, path)
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		r.problem(n, path, "want an address and a port, like 127.0.0.1:8080")
	}
	return s
}

func (r *reader) prefixes(n *yaml.Node, path string) (prefixes []netip.Prefix) {
	r.each(n, path, func(n *yaml.Node, path string) {
		s := r.text(n, path)
		prefix, err := netip.ParsePrefix(s)
		if addr, errAddr := netip.ParseAddr(s); errAddr == nil && addr.Zone() == "" {
			prefix, err = addr.Unmap().Prefix(addr.Unmap().BitLen())
		}
		if err != nil {
			r.problem(n, path, "want an IP address or a range of them, like 10.0.0.1 or 10.0.0.0/8")
			return
		}
		switch {
		case prefix.Addr().Is4In6():
			r.problem(n, path, "want a range of IPv4 as such, like 10.0.0.0/8")
		case prefix != prefix.Masked():
			r.problem(n, path, "is more than one address: want %v for the range, %v for the address", prefix.Masked(), prefix.Addr())
		case prefix.Bits() == 0:
			r.warn(n, path, "whoever connects is trusted to say who asks for what")
		}
		prefixes = append(prefixes, prefix)
	})
	return prefixes
}
