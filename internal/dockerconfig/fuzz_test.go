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
