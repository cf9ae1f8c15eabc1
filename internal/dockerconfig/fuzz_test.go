package dockerconfig

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func FuzzEdit(f *testing.F) {
	for _, tt := range additions {
		f.Add([]byte(tt.before), ours)
	}
	f.Add([]byte(`{"credHelpers":{"a":"b","a":"c"},"credhelpers2":null,"auths":{"x":{"auth":"y"}}}`), "a")
	// Containers' auth.json has the same editor.
	f.Add([]byte("{\n\t\"auths\": {\n\t\t\"quay.io\": {\n\t\t\t\"auth\": \"eA==\"\n\t\t}\n\t}\n}"), ours)
	f.Add([]byte(strings.Repeat(`{"credHelpers":`, 100_000)), ours)
	f.Add([]byte(`{"credHelpers":{"`+strings.Repeat("a", 64<<10)+`":"x"}}`), "\x1b[31m\u202e")
	f.Add([]byte("{\"credHelpers\":{\"\xff\":\"b\"}}"), "\xff")
	f.Fuzz(func(t *testing.T, before []byte, address string) {
		original := slices.Clone(before)
		c, err := Add([]string{address}, "dtz", anything)(before)
		after := c.After
		if !bytes.Equal(original, before) {
			t.Fatal("the input was written to")
		}
		if err != nil {
			return
		}
		have, err := decode(before)
		if err != nil {
			t.Fatalf("edited what cannot be read: %v", err)
		}
		got, err := decode(after)
		if err != nil || got[address] != "dtz" {
			t.Fatalf("Docker reads %v, %v from\n%s", got, err, after)
		}
		if len(c.Entries) == 0 {
			if string(after) != string(before) {
				t.Errorf("unchanged, yet another content:\n%s", after)
			}
			return
		}
		if !reflect.DeepEqual(rest(t, before, have, address), rest(t, after, got, address)) {
			t.Errorf("more than the entry changed: from\n%s\nto\n%s", before, after)
		}
		if !sameOrder(t, before, after) {
			t.Errorf("other places changed than one: from\n%s\nto\n%s", before, after)
		}
		undone, _, err := edited(Remove([]string{address}, Origin{}, "dtz"), after)
		if err != nil {
			t.Fatalf("removing from\n%s\n%v", after, err)
		}
		if got, err := decode(undone); err != nil || !reflect.DeepEqual(rest(t, undone, got, address), rest(t, before, have, address)) {
			t.Errorf("more than the entry was removed: from\n%s\nto\n%s", after, undone)
		}
		if _, replaced := have[address]; replaced {
			return
		}
		back, _, err := edited(Remove(nil, c.Origin, "dtz"), after)
		if err != nil || string(back) != string(before) && !hasHelper(have, "dtz") {
			t.Errorf("taken back, %q is %q, %v", before, back, err)
		}
	})
}

// What is told of auths, in either file or in DOCKER_AUTH_CONFIG, are the keys of
// entries with a secret, and of the secret nothing, however broken the file.
func FuzzSecrets(f *testing.F) {
	for _, text := range []string{
		`{"auths":{"quay.io":{"auth":"eDp5"},"ghcr.io":{}}}`, `{"auths":{"a":{"password":"p"},"b":{"identitytoken":"t"},"c":{"registrytoken":"r"}}}`,
		`{"auths":"eDpjNG5hcnlj"}`, `{"auths":{"a":"eDpjNG5hcnlj"}}`, `{"auths":{"a":{"auth":1234567890123456789}}}`, `{"auths":{"a":{"auth":"eDpjNG5hcnlj`,
		`{"auths":{"a":{"auth":"x"},"a":{}}}`, `{"AUTHS":{"a":{"AUTH":"x"}}}`, `eDpjNG5hcnljNG5hcnljNG5hcnk=`, `{"credHelpers":"eDpjNG5hcnlj"}`,
		"", "null", "[]", strings.Repeat(`{"auths":`, 100_000), "\xff\x00", `{"auths":{"\u001b[31m":{"auth":"x"}}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		found, err := Secrets(data)
		if err != nil {
			for i := 0; i+16 <= len(data); i++ {
				if bytes.Contains([]byte(err.Error()), data[i:i+16]) {
					t.Fatalf("Secrets(%q) = %q, which quotes it", data, err)
				}
			}
			return
		}
		var config struct {
			Auths map[string]map[string]any `json:"auths"`
		}
		if !isBlank(data) && json.Unmarshal(data, &config) != nil {
			t.Fatalf("Secrets(%q) = %q from what is no such file", data, found)
		}
		if !slices.IsSorted(found) {
			t.Errorf("Secrets(%q) = %q, want them sorted", data, found)
		}
		for key, entry := range config.Auths {
			holds := false
			for name, value := range entry {
				isSecret := slices.ContainsFunc([]string{"auth", "password", "identitytoken", "registrytoken"}, func(s string) bool { return strings.EqualFold(s, name) })
				holds = holds || isSecret && value != "" // null leaves what a member before said
			}
			if !holds && slices.Contains(found, key) {
				t.Errorf("Secrets(%q) = %q, and %q has none", data, found, key)
			}
		}
		for _, key := range found {
			if _, there := config.Auths[key]; !there {
				t.Errorf("Secrets(%q) = %q, and %q is no entry", data, found, key)
			}
		}
	})
}

func hasHelper(helpers map[string]string, helper string) bool {
	return slices.Contains(slices.Collect(maps.Values(helpers)), helper)
}

// rest is all of a configuration but the helper of address: credHelpers as read
// by Docker, the other members as they are written, to the letter.
func rest(t *testing.T, data []byte, helpers map[string]string, address string) map[string]string {
	t.Helper()
	all := map[string]string{}
	if !isBlank(data) {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(data, &members); err != nil {
			t.Fatal(err)
		}
		for name, value := range members {
			if !strings.EqualFold(name, credHelpers) {
				all["member "+name] = string(value)
			}
		}
	}
	for name, helper := range helpers {
		if name != address {
			all["helper "+name] = helper
		}
	}
	return all
}

// sameOrder reports whether two configurations are the same tokens but for one
// run of them, in which before has at most the one that is replaced.
func sameOrder(t *testing.T, before, after []byte) bool {
	t.Helper()
	if isBlank(before) {
		return true
	}
	a, b := tokens(t, before), tokens(t, after)
	same := 0
	for same < len(a) && a[same] == b[same] {
		same++
	}
	tail := 0
	for tail < len(a)-same && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	if len(a) == len(b) {
		return same+tail == len(a)-1
	}
	return same+tail == len(a)
}

func tokens(t *testing.T, data []byte) []json.Token {
	t.Helper()
	var all []json.Token
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	for {
		token, err := dec.Token()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, token)
	}
}
