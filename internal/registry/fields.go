package registry

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// maxIDLength is ample for a kind and a UUID.
const maxIDLength = 64

// maxDate is the last second of the year 9999, in seconds since the epoch.
// Later dates have no JSON or log form.
const maxDate = 253402300799

// fields reads a JSON object of a token. A [Rule] for a member bears its name.
// The first rule that is broken stays in err; later ones change nothing, so
// err need be looked at only once.
type fields struct {
	members []member
	err     error
}

func parseFields(data []byte, known []string) (*fields, error) {
	members, err := parseObject(data, known)
	return &fields{members: members}, err
}

// require refuses the token, unless ok or refused already.
func (f *fields) require(ok bool, rule Rule, why string) {
	if !ok && f.err == nil {
		f.err = &TokenError{rule, why}
	}
}

// value is a member's JSON text, never empty, or "" for a missing one.
func (f *fields) value(name string) string {
	for _, m := range f.members {
		if m.name == name {
			return m.value
		}
	}
	return ""
}

func (f *fields) has(name string) bool { return f.value(name) != "" }

// required is like value, and requires one.
func (f *fields) required(rule Rule) string {
	value := f.value(string(rule))
	f.require(value != "", rule, "missing")
	return value
}

// text is a required string.
func (f *fields) text(rule Rule) string {
	text, ok := parseString(f.required(rule))
	f.require(ok, rule, "not a string")
	return text
}

// id is a required identifier. Identifiers end up in log lines, headers and
// paths, so they are letters, digits and hyphens, as the platform makes them.
func (f *fields) id(rule Rule) string {
	id := f.text(rule)
	f.require(isIdentifier(id), rule, "not an identifier")
	return id
}

func isIdentifier(id string) bool {
	isForeign := func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}
	return id != "" && len(id) <= maxIDLength && strings.IndexFunc(id, isForeign) < 0
}

// texts is an array of strings, or nil for a missing one.
func (f *fields) texts(rule Rule) []string {
	value := f.value(string(rule))
	if value == "" {
		return nil
	}
	texts, ok := parseStrings(value)
	f.require(ok, rule, "not an array of strings")
	return texts
}

// audience is a required string, or array of strings (RFC 7519 §4.1.3).
func (f *fields) audience() []string {
	if strings.HasPrefix(f.required(RuleAudience), "[") {
		return f.texts(RuleAudience)
	}
	return []string{f.text(RuleAudience)}
}

// date is a required NumericDate (RFC 7519 §2), in whole seconds: a fraction
// is cut off.
func (f *fields) date(rule Rule) time.Time {
	value := f.required(rule)
	seconds, err := strconv.ParseFloat(value, 64)
	f.require(err == nil && seconds >= 0 && seconds <= maxDate, rule, "not a date")
	return time.Unix(int64(math.Trunc(seconds)), 0)
}
