package dockerconfig

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

const (
	ours   = "cr.dtz.rocks"
	ported = "cr.dtz.rocks:3214"
)

func anything(string) bool { return true }

// edited is what e makes of before, and the addresses whose entry changes.
func edited(e Edit, before []byte) (after []byte, changed []string, err error) {
	c, err := e(before)
	return c.After, addresses(c), err
}

func addresses(c Change) (changed []string) {
	for _, entry := range c.Entries {
		changed = append(changed, entry.Address)
	}
	return changed
}

// Each row: what the file holds, and what it holds after adding cr.dtz.rocks.
// Removing it again gives the first back.
var additions = []struct {
	name          string
	before, after string
}{
	{
		name:   "an empty file, which Docker takes for an empty configuration",
		before: "",
		after:  "{\n\t\"credHelpers\": {\n\t\t\"cr.dtz.rocks\": \"dtz\"\n\t}\n}\n",
	},
	{
		name:   "a file of white space",
		before: " \r\n\t",
		after:  "{\n\t\"credHelpers\": {\n\t\t\"cr.dtz.rocks\": \"dtz\"\n\t}\n}\n",
	},
	{
		name:   "an empty object without a final newline",
		before: "{}",
		after:  "{\n\t\"credHelpers\": {\n\t\t\"cr.dtz.rocks\": \"dtz\"\n\t}\n}",
	},
	{
		name:   "an empty object on several lines of Windows'",
		before: "{\r\n}\r\n",
		after:  "{\r\n\t\"credHelpers\": {\r\n\t\t\"cr.dtz.rocks\": \"dtz\"\r\n\t}\r\n}\r\n",
	},
	{
		name:   "as docker login leaves it: tabs, no final newline",
		before: "{\n\t\"auths\": {\n\t\t\"ghcr.io\": {}\n\t},\n\t\"credsStore\": \"desktop\"\n}",
		after:  "{\n\t\"auths\": {\n\t\t\"ghcr.io\": {}\n\t},\n\t\"credsStore\": \"desktop\",\n\t\"credHelpers\": {\n\t\t\"cr.dtz.rocks\": \"dtz\"\n\t}\n}",
	},
	{
		name:   "two spaces and a final newline",
		before: "{\n  \"auths\": {}\n}\n",
		after:  "{\n  \"auths\": {},\n  \"credHelpers\": {\n    \"cr.dtz.rocks\": \"dtz\"\n  }\n}\n",
	},
	{
		name:   "four spaces and Windows' lines",
		before: "{\r\n    \"auths\" : {}\r\n}\r\n",
		after:  "{\r\n    \"auths\" : {},\r\n    \"credHelpers\" : {\r\n        \"cr.dtz.rocks\" : \"dtz\"\r\n    }\r\n}\r\n",
	},
	{
		name:   "an object that is indented as a whole",
		before: "  {\n    \"auths\": {}\n  }\n",
		after:  "  {\n    \"auths\": {},\n    \"credHelpers\": {\n      \"cr.dtz.rocks\": \"dtz\"\n    }\n  }\n",
	},
	{
		name:   "no indentation at all",
		before: "{\n\"auths\": {}\n}",
		after:  "{\n\"auths\": {},\n\"credHelpers\": {\n\"cr.dtz.rocks\": \"dtz\"\n}\n}",
	},
	{
		name:   "blank lines between members are not copied",
		before: "{\n\t\"auths\": {},\n\n\t\"detachKeys\": \"ctrl-e,e\"\n\n}",
		after:  "{\n\t\"auths\": {},\n\n\t\"detachKeys\": \"ctrl-e,e\",\n\t\"credHelpers\": {\n\t\t\"cr.dtz.rocks\": \"dtz\"\n\t}\n\n}",
	},
	{
		name:   "one line without a space",
		before: `{"auths":{}}`,
		after:  `{"auths":{},"credHelpers":{"cr.dtz.rocks":"dtz"}}`,
	},
	{
		name:   "one line with a space after the colon",
		before: `{"auths": {}}`,
		after:  `{"auths": {}, "credHelpers": {"cr.dtz.rocks": "dtz"}}`,
	},
	{
		name:   "one line with spaces in the braces",
		before: `{ "auths": {} }`,
		after:  `{ "auths": {}, "credHelpers": { "cr.dtz.rocks": "dtz" } }`,
	},
	{
		name:   "several members on one line",
		before: `{"auths":{}, "credsStore":"pass"}`,
		after:  `{"auths":{}, "credsStore":"pass", "credHelpers":{"cr.dtz.rocks":"dtz"}}`,
	},
	{
		name:   "commas first",
		before: "{ \"auths\": {}\n, \"credHelpers\":\n  { \"gcr.io\": \"gcloud\"\n  , \"ghcr.io\": \"pass\"\n  }\n}\n",
		after:  "{ \"auths\": {}\n, \"credHelpers\":\n  { \"gcr.io\": \"gcloud\"\n  , \"ghcr.io\": \"pass\"\n  , \"cr.dtz.rocks\": \"dtz\"\n  }\n}\n",
	},
	{
		name:   "behind other helpers, before other members",
		before: "{\n\t\"credHelpers\": {\n\t\t\"gcr.io\": \"gcloud\"\n\t},\n\t\"x\": 1.00e+2\n}\n",
		after:  "{\n\t\"credHelpers\": {\n\t\t\"gcr.io\": \"gcloud\",\n\t\t\"cr.dtz.rocks\": \"dtz\"\n\t},\n\t\"x\": 1.00e+2\n}\n",
	},
	{
		name:   "helpers on one line among others on many",
		before: "{\n\t\"credHelpers\": {\"gcr.io\": \"gcloud\"}\n}\n",
		after:  "{\n\t\"credHelpers\": {\"gcr.io\": \"gcloud\", \"cr.dtz.rocks\": \"dtz\"}\n}\n",
	},
	{
		name:   "an empty credHelpers",
		before: "{\n  \"credHelpers\": {},\n  \"auths\": {}\n}\n",
		after:  "{\n  \"credHelpers\": {\n    \"cr.dtz.rocks\": \"dtz\"\n  },\n  \"auths\": {}\n}\n",
	},
	{
		name:   "an empty credHelpers on one line",
		before: `{"credHelpers": {}}`,
		after:  `{"credHelpers": {"cr.dtz.rocks": "dtz"}}`,
	},
	{
		name:   "an empty credHelpers on the line of a member that is not",
		before: "{\n\t\"auths\": {}, \"credHelpers\": {}}",
		after:  "{\n\t\"auths\": {}, \"credHelpers\": {\"cr.dtz.rocks\": \"dtz\"}}",
	},
	{
		name:   "credHelpers in another case, which Docker reads too",
		before: `{"CREDHELPERS":{"gcr.io":"gcloud"}}`,
		after:  `{"CREDHELPERS":{"gcr.io":"gcloud","cr.dtz.rocks":"dtz"}}`,
	},
	{
		name:   "credHelpers with an escape in it",
		before: `{"cred\u0048elpers":{"gcr.io":"gcloud"}}`,
		after:  `{"cred\u0048elpers":{"gcr.io":"gcloud","cr.dtz.rocks":"dtz"}}`,
	},
	{
		name:   "an address that differs in case only is another one",
		before: `{"credHelpers":{"CR.DTZ.ROCKS":"other"}}`,
		after:  `{"credHelpers":{"CR.DTZ.ROCKS":"other","cr.dtz.rocks":"dtz"}}`,
	},
	{
		name:   "other members that are there twice, and letters of all kinds",
		before: "{\"a\":1,\"a\":\"\\u00e4 ä \xff\",\"auths\":{\"credHelpers\":[]}}",
		after:  "{\"a\":1,\"a\":\"\\u00e4 ä \xff\",\"auths\":{\"credHelpers\":[]},\"credHelpers\":{\"cr.dtz.rocks\":\"dtz\"}}",
	},
}

func TestAdding(t *testing.T) {
	for _, tt := range additions {
		c, err := Add([]string{ours}, "dtz", nil)([]byte(tt.before))
		after := c.After
		if err != nil || string(after) != tt.after || !slices.Equal(c.Entries, []Entry{{Address: ours, After: "dtz"}}) {
			t.Errorf("%s: adding to\n%s\ngives %v, %v and\n%s\nwant\n%s", tt.name, tt.before, c.Entries, err, after, tt.after)
			continue
		}
		again, changed, err := edited(Add([]string{ours}, "dtz", nil), after)
		if err != nil || string(again) != string(after) || changed != nil {
			t.Errorf("%s: adding twice gives %v, %v and\n%s", tt.name, changed, err, again)
		}
		removed, changed, err := edited(Remove([]string{ours}, c.Origin, "dtz"), after)
		if err != nil || !slices.Equal(changed, []string{ours}) {
			t.Errorf("%s: removing gives %v, %v", tt.name, changed, err)
		}
		if string(removed) != tt.before {
			t.Errorf("%s: removing from\n%s\ngives\n%s\nwant\n%s", tt.name, after, removed, tt.before)
		}
	}
}

// What is put back comes from a file that anybody can have written.
func TestRemovingWithAnOriginThatDoesNotFit(t *testing.T) {
	const one = `{"credHelpers":{"cr.dtz.rocks":"dtz"}}`
	const two = `{"credHelpers":{"cr.dtz.rocks":"dtz"},"a":1}`
	tests := []struct {
		name          string
		origin        Origin
		before, after string
	}{
		{"not known", Origin{}, one, `{}`},
		{"a file that has got other members", Origin{Missing: MissingFile}, two, `{"a":1}`},
		{"an empty file that has got other members", Origin{MissingMembers, "{ }"}, two, `{"a":1}`},
		{"a file with members", Origin{MissingMembers, `{"b":2}`}, one, `{}`},
		{"no JSON", Origin{MissingMembers, `{`}, one, `{}`},
		{"a comment", Origin{MissingMembers, `{/**/}`}, one, `{}`},
		{"two objects", Origin{MissingMembers, `{}{}`}, one, `{}`},
		{"entries", Origin{MissingEntries, `{"x":"y"}`}, two, `{"a":1}`},
		{"a list of entries", Origin{MissingEntries, `[]`}, two, `{"a":1}`},
		{"a list of entries in a file with nothing else", Origin{MissingEntries, `[]`}, one, `{}`},
		{"something else", Origin{"else", `{}`}, two, `{"a":1}`},
	}
	for _, tt := range tests {
		after, _, err := edited(Remove(nil, tt.origin, "dtz"), []byte(tt.before))
		if err != nil || string(after) != tt.after {
			t.Errorf("%s: removing from %s gives %q, %v, want %q", tt.name, tt.before, after, err, tt.after)
		}
	}
}

func TestAddingSeveral(t *testing.T) {
	tests := []struct {
		name          string
		addresses     []string
		before, after string
		changed       []string
	}{
		{
			name:      "two to nothing, in their order",
			addresses: []string{ported, ours},
			before:    "{}",
			after:     "{\n\t\"credHelpers\": {\n\t\t\"cr.dtz.rocks:3214\": \"dtz\",\n\t\t\"cr.dtz.rocks\": \"dtz\"\n\t}\n}",
			changed:   []string{ported, ours},
		},
		{
			name:      "one of two is there",
			addresses: []string{ours, ported},
			before:    `{"credHelpers":{"cr.dtz.rocks":"dtz"}}`,
			after:     `{"credHelpers":{"cr.dtz.rocks":"dtz","cr.dtz.rocks:3214":"dtz"}}`,
			changed:   []string{ported},
		},
		{
			name:      "the same twice",
			addresses: []string{ours, ours},
			before:    `{"credHelpers":{}}`,
			after:     `{"credHelpers":{"cr.dtz.rocks":"dtz"}}`,
			changed:   []string{ours},
		},
		{
			name:      "there in another spelling of JSON",
			addresses: []string{ours},
			before:    `{"credHelpers":{"cr\u002edtz.rocks":"\u0064tz"}}`,
			after:     `{"credHelpers":{"cr\u002edtz.rocks":"\u0064tz"}}`,
		},
		{
			name:   "none",
			before: `{"x":  1}`,
			after:  `{"x":  1}`,
		},
		{
			name:      "an address that would end a string",
			addresses: []string{`a":"b`},
			before:    `{"x":1}`,
			after:     `{"x":1,"credHelpers":{"a\":\"b":"dtz"}}`,
			changed:   []string{`a":"b`},
		},
	}
	for _, tt := range tests {
		after, changed, err := edited(Add(tt.addresses, "dtz", nil), []byte(tt.before))
		if err != nil || string(after) != tt.after || !slices.Equal(changed, tt.changed) {
			t.Errorf("%s: adding %q to\n%s\ngives %v, %v and\n%s\nwant %v and\n%s", tt.name, tt.addresses, tt.before, changed, err, after, tt.changed, tt.after)
		}
	}
}

func TestAddingOverAnotherHelper(t *testing.T) {
	tests := []struct{ name, before, helper, after string }{
		{"another helper", `{"credHelpers": {"a": "b", "cr.dtz.rocks" : "pass", "c": "d"}}`, "pass", `{"credHelpers": {"a": "b", "cr.dtz.rocks" : "dtz", "c": "d"}}`},
		{"no helper by choice", `{"credHelpers":{"cr.dtz.rocks":""}}`, "", `{"credHelpers":{"cr.dtz.rocks":"dtz"}}`},
		{"null, which Docker takes for none", `{"credHelpers":{"cr.dtz.rocks":null}}`, "", `{"credHelpers":{"cr.dtz.rocks":"dtz"}}`},
	}
	for _, tt := range tests {
		_, changed, err := edited(Add([]string{ported, ours}, "dtz", nil), []byte(tt.before))
		var conflict *ConflictError
		if !errors.As(err, &conflict) || *conflict != (ConflictError{ours, tt.helper}) || changed != nil {
			t.Errorf("%s: adding gives %v, %v, want the conflict with %q", tt.name, changed, err, tt.helper)
		}
		after, changed, err := edited(Add([]string{ours}, "dtz", anything), []byte(tt.before))
		if err != nil || string(after) != tt.after || !slices.Equal(changed, []string{ours}) {
			t.Errorf("%s: replacing gives %v, %v and\n%s\nwant\n%s", tt.name, changed, err, after, tt.after)
		}
	}
}

func TestRemoving(t *testing.T) {
	both := []string{ours, ported}
	tests := []struct {
		name          string
		addresses     []string
		before, after string
		changed       []string
	}{
		{"the first", []string{ours}, `{"credHelpers": {"cr.dtz.rocks": "dtz", "a": "b"}}`, `{"credHelpers": {"a": "b"}}`, []string{ours}},
		{"one in the middle", []string{ours}, `{"credHelpers":{"a":"b", "cr.dtz.rocks":"dtz", "c":"d"}}`, `{"credHelpers":{"a":"b", "c":"d"}}`, []string{ours}},
		{"the last", []string{ours}, `{"credHelpers":{"a":"b" , "cr.dtz.rocks":"dtz" }}`, `{"credHelpers":{"a":"b" }}`, []string{ours}},
		{"all, and so credHelpers, the first", both, `{"credHelpers":{"cr.dtz.rocks":"dtz","cr.dtz.rocks:3214":"dtz.exe"}, "a":1}`, `{"a":1}`, both},
		{"all, and so credHelpers, the last", both, "{\n\t\"a\": 1,\n\t\"credHelpers\": {\n\t\t\"cr.dtz.rocks\": \"dtz\"\n\t}\n}\n", "{\n\t\"a\": 1\n}\n", []string{ours}},
		{"all, and so everything", both, "{\n\t\"credHelpers\": {\n\t\t\"cr.dtz.rocks\": \"dtz\"\n\t}\n}\n", "{}\n", []string{ours}},
		{"what another helper serves stays", both, `{"credHelpers":{"cr.dtz.rocks":"pass", "cr.dtz.rocks:3214":"dtz"}}`, `{"credHelpers":{"cr.dtz.rocks":"pass"}}`, []string{ported}},
		{"nothing there", both, `{"credHelpers":{"a":"b"}}`, `{"credHelpers":{"a":"b"}}`, nil},
		{"an empty credHelpers that was there before stays", both, `{"credHelpers":{ }}`, `{"credHelpers":{ }}`, nil},
		{"no credHelpers", both, `{"a":1}`, `{"a":1}`, nil},
		{"an empty file", both, ``, ``, nil},
		{"the same twice", []string{ours, ours}, `{"credHelpers":{"cr.dtz.rocks":"dtz", "a":"b"}}`, `{"credHelpers":{"a":"b"}}`, []string{ours}},
	}
	for _, tt := range tests {
		after, changed, err := edited(Remove(tt.addresses, Origin{}, "dtz", "dtz.exe"), []byte(tt.before))
		if err != nil || string(after) != tt.after || !slices.Equal(changed, tt.changed) {
			t.Errorf("%s: removing from\n%s\ngives %v, %v and\n%s\nwant %v and\n%s", tt.name, tt.before, changed, err, after, tt.changed, tt.after)
		}
	}
}

func TestLeftAlone(t *testing.T) {
	tests := []struct{ name, before, want string }{
		{"a comment", "{\n// c4nary\n\"a\": 1}", "not standard JSON: invalid character '/' looking for beginning of object key string (line 2)"},
		{"a block comment", "{\"a\": 1}\n/* c4nary */", "not standard JSON: invalid character '/' after top-level value (line 2)"},
		{"a trailing comma", "{\n\t\"a\": \"c4nary\",\n}", "not standard JSON: invalid character '}' looking for beginning of object key string (line 3)"},
		{"a literal that is none", "{\"a\":\nc4nary}", "not standard JSON: invalid character 'c' looking for beginning of value (line 2)"},
		{"cut short", "{\n\"a\": \"c4nary", "not standard JSON: unexpected end of JSON input (line 2)"},
		{"two configurations", "{}\n\n{}", "not standard JSON: invalid character '{' after top-level value (line 3)"},
		{"a byte order mark", "\xef\xbb\xbf{}", "not standard JSON: it begins with a byte order mark (line 1)"},
		{"UTF-16", "\xff\xfe{\x00}\x00", "not standard JSON: invalid character 'ÿ' looking for beginning of value (line 1)"},
		{"nested without end", strings.Repeat("[", 1<<20), "not standard JSON: invalid character '[' exceeded max depth (line 1)"},
		{"a list", "\n[]", "the configuration is not an object (line 2)"},
		{"null", "\nnull", "the configuration is not an object (line 2)"},
		{"a string", `"c4nary"`, "the configuration is not an object (line 1)"},
		{"credHelpers a list", "{\n\"credHelpers\": []}", "credHelpers is not an object of strings (line 2)"},
		{"credHelpers a string", "{\n\"credHelpers\": \"c4nary\"}", "credHelpers is not an object of strings (line 2)"},
		{"credHelpers null", "{\n\"credHelpers\": null}", "credHelpers is not an object (line 2)"},
		{"a helper that is a number", "{\"credHelpers\": {\n\"a\": 1}}", "credHelpers is not an object of strings (line 2)"},
		{"credHelpers twice", "{\"credHelpers\": {},\n\"credHelpers\": {}}", "credHelpers is there twice (line 2)"},
		{"credHelpers twice, in two cases", "{\"credHelpers\": {},\n\"CredHelpers\": {}}", "credHelpers is there twice (line 2)"},
		{"credHelpers twice, with the letter ſ that Go takes for s", "{\"credHelpers\": {},\n\"credHelperſ\": {}}", "credHelpers is there twice (line 2)"},
		{"our address twice", "{\"credHelpers\": {\"cr.dtz.rocks\": \"dtz\",\n\"cr.dtz\\u002erocks\": \"dtz\"}}", `"cr.dtz.rocks" is there twice (line 2)`},
	}
	for _, tt := range tests {
		for name, e := range map[string]Edit{
			"adding":   Add([]string{ours}, "dtz", anything),
			"removing": Remove([]string{ours}, Origin{}, "dtz"),
		} {
			after, changed, err := edited(e, []byte(tt.before))
			if err == nil || err.Error() != tt.want || after != nil || changed != nil {
				t.Errorf("%s: %s gives %q, %v, error %v, want error %s", tt.name, name, after, changed, err, tt.want)
			}
		}
	}
}
