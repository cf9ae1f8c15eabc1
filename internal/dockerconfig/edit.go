package dockerconfig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tailscale/hujson"
)

const credHelpers = "credHelpers"

// edit turns a file's content into another and says for which addresses it
// differs. Without any, the content is to be left as it is.
type edit func(before []byte) (after []byte, changed []string, err error)

// lineError is a fault in the content of a file.
type lineError struct {
	line int
	msg  string
}

func (e *lineError) Error() string { return fmt.Sprintf("%s (line %d)", e.msg, e.line) }

func faultAt(data []byte, offset int, msg string) error {
	return &lineError{1 + bytes.Count(data[:min(max(offset, 0), len(data))], []byte("\n")), msg}
}

// decode reads credHelpers as Docker does: with encoding/json, which takes
// CREDHELPERS for credHelpers, and an empty file for an empty configuration.
func decode(data []byte) (map[string]string, error) {
	if isBlank(data) {
		return nil, nil
	}
	var config struct {
		CredHelpers map[string]string `json:"credHelpers"`
	}
	err := json.Unmarshal(data, &config)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		why := syntax.Error()
		if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
			why = "it begins with a byte order mark"
		}
		// Offset counts the byte in fault.
		return nil, faultAt(data, int(syntax.Offset)-1, "not standard JSON: "+why)
	}
	if kind, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		what := "the configuration is not an object"
		if kind.Field != "" {
			what = "credHelpers is not an object of strings"
		}
		return nil, faultAt(data, int(kind.Offset)-1, what)
	}
	return config.CredHelpers, err
}

func isBlank(data []byte) bool { return len(bytes.Trim(data, " \t\r\n")) == 0 }

// document is a file's content as a syntax tree that keeps every byte.
type document struct {
	data    []byte // as parsed
	tree    hujson.Value
	root    *hujson.Object
	helpers *hujson.Object    // nil if there are none
	decoded map[string]string // what Docker reads
}

func parse(data []byte) (*document, error) {
	// First, because encoding/json bounds the depth of nesting and its errors
	// quote one character at most, where hujson's quote whole literals.
	decoded, err := decode(data)
	if err != nil {
		return nil, err
	}
	d := &document{data: data, decoded: decoded}
	if isBlank(data) {
		d.data = []byte("{}\n")
	}
	if d.tree, err = hujson.Parse(d.data); err != nil {
		return nil, errors.New("not standard JSON")
	}
	var ok bool
	if d.root, ok = d.tree.Value.(*hujson.Object); !ok {
		return nil, d.fault(d.tree, "the configuration is not an object")
	}
	var found *hujson.Value
	for i := range d.root.Members {
		m := &d.root.Members[i]
		if !strings.EqualFold(nameOf(*m), credHelpers) {
			continue
		}
		// Docker merges the two, a later tool may take the first or the last.
		if found != nil {
			return nil, d.fault(m.Name, "credHelpers is there twice")
		}
		found = &m.Value
	}
	if found == nil {
		return d, nil
	}
	if d.helpers, ok = found.Value.(*hujson.Object); !ok {
		return nil, d.fault(*found, "credHelpers is not an object")
	}
	return d, nil
}

func (d *document) fault(at hujson.Value, msg string) error {
	return faultAt(d.data, at.StartOffset, msg)
}

func nameOf(m hujson.ObjectMember) string { return m.Name.Value.(hujson.Literal).String() }

// entry returns the index of address under credHelpers; -1: there is none.
func (d *document) entry(address string) (int, error) {
	found := -1
	if d.helpers == nil {
		return found, nil
	}
	for i, m := range d.helpers.Members {
		if nameOf(m) != address {
			continue
		}
		if found >= 0 {
			return 0, d.fault(m.Name, fmt.Sprintf("%q is there twice", address))
		}
		found = i
	}
	return found, nil
}

// pack returns the content, once Docker reads from it what was meant.
func (d *document) pack(want map[string]string) ([]byte, error) {
	after := d.tree.Pack()
	got, err := decode(after)
	if err != nil || !maps.Equal(got, want) {
		return nil, errors.New("credHelpers cannot be edited so that Docker reads what is meant")
	}
	return after, nil
}

func adding(addresses []string, helper string, replace bool) edit {
	return func(before []byte) ([]byte, []string, error) {
		d, err := parse(before)
		if err != nil {
			return nil, nil, err
		}
		want := map[string]string{}
		maps.Copy(want, d.decoded)
		var changed []string
		for _, address := range addresses {
			i, err := d.entry(address)
			if err != nil {
				return nil, nil, err
			}
			have, exists := want[address]
			switch {
			case exists && have == helper:
				continue
			case exists && !replace:
				return nil, nil, &ConflictError{address, have}
			case exists:
				d.helpers.Members[i].Value.Value = hujson.String(helper)
			default:
				d.insert(address, helper)
			}
			want[address] = helper
			changed = append(changed, address)
		}
		if len(changed) == 0 {
			return before, nil, nil
		}
		after, err := d.pack(want)
		return after, changed, err
	}
}

func removing(addresses, helpers []string) edit {
	return func(before []byte) ([]byte, []string, error) {
		d, err := parse(before)
		if err != nil {
			return nil, nil, err
		}
		want := map[string]string{}
		maps.Copy(want, d.decoded)
		var changed []string
		for _, address := range addresses {
			i, err := d.entry(address)
			if err != nil {
				return nil, nil, err
			}
			if i < 0 || !slices.Contains(helpers, want[address]) {
				continue
			}
			remove(d.helpers, i)
			delete(want, address)
			changed = append(changed, address)
		}
		if len(changed) == 0 {
			return before, nil, nil
		}
		if len(d.helpers.Members) == 0 {
			remove(d.root, d.helpersIndex())
		}
		after, err := d.pack(want)
		return after, changed, err
	}
}
