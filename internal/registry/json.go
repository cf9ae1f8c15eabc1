package registry

import (
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"unicode/utf8"
)

// maxMembers bounds the search for duplicates. A token's header has three
// members and its claims have a dozen.
const maxMembers = 64

// A member of a JSON object. Its value is JSON text, not yet looked into.
type member struct{ name, value string }

// parseObject splits data into the members of a JSON object. It is stricter
// than [json.Unmarshal], which lets the last of two equal members win, takes
// "EXP" for "exp" and repairs broken UTF-8: there each reader of one token may
// see another one. Two members that differ at most in case are an error, and
// so is a member that differs from one of known only in case.
func parseObject(data []byte, known []string) ([]member, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not UTF-8")
	}
	if !json.Valid(data) {
		return nil, errors.New("not JSON")
	}
	text := trim(string(data))
	if text[0] != '{' {
		return nil, errors.New("not a JSON object")
	}
	members := make([]member, 0, 16)
	for rest := trim(text[1:]); rest[0] != '}'; rest = trim(rest) {
		if len(members) == maxMembers {
			return nil, errors.New("too many members")
		}
		var quoted, value string
		quoted, rest = cutValue(rest)
		value, rest = cutValue(trim(rest))
		name, ok := parseString(quoted)
		if !ok {
			return nil, errors.New("member name is not Unicode")
		}
		for _, m := range members {
			if strings.EqualFold(m.name, name) {
				return nil, errors.New("duplicate member")
			}
		}
		for _, k := range known {
			if k != name && strings.EqualFold(k, name) {
				return nil, errors.New("member in the wrong case: " + k)
			}
		}
		members = append(members, member{name, value})
	}
	return members, nil
}

// The functions below take text that json.Valid has passed, so that they need
// not look for errors: a separator can only be where it belongs.

// trim skips white space and separators.
func trim(s string) string {
	for s != "" && strings.IndexByte(" \t\r\n,:", s[0]) >= 0 {
		s = s[1:]
	}
	return s
}

// cutValue parts s behind the JSON value that it begins with.
func cutValue(s string) (value, rest string) {
	end, depth := 0, 0
	for {
		switch s[end] {
		case '"':
			end += stringLength(s[end:])
		case '{', '[':
			depth++
			end++
		case '}', ']':
			depth--
			end++
		default:
			if depth > 0 {
				end++
				break
			}
			if end = strings.IndexAny(s, ",:]} \t\r\n"); end < 0 {
				end = len(s)
			}
		}
		if depth == 0 {
			return s[:end], s[end:]
		}
	}
}

// stringLength is the length of the quoted string that s begins with.
func stringLength(s string) int {
	for i := 1; ; i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}

// parseString is the text of a JSON string. It refuses any other value, and
// escapes that are half of a surrogate pair.
func parseString(value string) (text string, ok bool) {
	if !strings.HasPrefix(value, `"`) {
		return "", false
	}
	text = value[1 : len(value)-1]
	if strings.IndexByte(text, '\\') < 0 {
		return text, true
	}
	var unquoted string
	err := json.Unmarshal([]byte(value), &unquoted)
	return unquoted, err == nil && !strings.ContainsRune(unquoted, utf8.RuneError)
}

// parseStrings is the texts of a JSON array of strings.
func parseStrings(value string) (texts []string, ok bool) {
	if !strings.HasPrefix(value, "[") {
		return nil, false
	}
	texts = make([]string, 0, strings.Count(value, `"`)/2)
	for element := range elements(value) {
		text, ok := parseString(element)
		if !ok {
			return nil, false
		}
		texts = append(texts, text)
	}
	return texts, true
}

// elements is the values in a JSON array.
func elements(array string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for rest := trim(array[1:]); rest[0] != ']'; rest = trim(rest) {
			var element string
			element, rest = cutValue(rest)
			if !yield(element) {
				return
			}
		}
	}
}
