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
	origin  Origin
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
	switch {
	case data == nil:
		d.origin.Missing = MissingFile
	case isBlank(data):
		d.origin = Origin{MissingMembers, string(data)}
	}
	var ok bool
	if d.root, ok = d.tree.Value.(*hujson.Object); !ok {
		return nil, d.fault(d.tree, "the configuration is not an object")
	}
	if len(d.root.Members) == 0 && d.origin.Missing == "" {
		d.origin = Origin{MissingMembers, string(data)}
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
	if len(d.helpers.Members) == 0 {
		d.origin = Origin{MissingEntries, string(data[found.StartOffset:found.EndOffset])}
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

// packed is c with the content, once Docker reads from it what was meant.
func (d *document) packed(c Change, want map[string]string) (Change, error) {
	c.After, c.Helpers = d.tree.Pack(), want
	got, err := decode(c.After)
	if err != nil || !maps.Equal(got, want) {
		return Change{}, errors.New("credHelpers cannot be edited so that Docker reads what is meant")
	}
	return c, nil
}

// Add makes helper the credential helper of each address, e.g. "dtz" for the
// program docker-credential-dtz. An entry that names another helper is a
// [*ConflictError] unless replace, which may be nil, says that it can go.
func Add(addresses []string, helper string, replace func(helper string) bool) Edit {
	return func(before []byte) (Change, error) {
		d, err := parse(before)
		if err != nil {
			return Change{}, err
		}
		c := Change{Before: before, After: before, Helpers: d.decoded}
		want := map[string]string{}
		maps.Copy(want, d.decoded)
		for _, address := range addresses {
			i, err := d.entry(address)
			if err != nil {
				return Change{}, err
			}
			have, exists := want[address]
			switch {
			case exists && have == helper:
				continue
			case exists && (replace == nil || !replace(have)):
				return Change{}, &ConflictError{address, have}
			case exists:
				d.helpers.Members[i].Value.Value = hujson.String(helper)
			default:
				d.insert(address, helper)
			}
			want[address] = helper
			c.Entries = append(c.Entries, Entry{address, have, helper})
		}
		if len(c.Entries) == 0 {
			return c, nil
		}
		c.Origin = d.origin
		return d.packed(c, want)
	}
}

// Remove removes the entries of addresses that name one of helpers, of all
// addresses if there are none in the list. When the last entry goes, so does
// credHelpers, and what origin says is put back.
func Remove(addresses []string, origin Origin, helpers ...string) Edit {
	return func(before []byte) (Change, error) {
		d, err := parse(before)
		if err != nil {
			return Change{}, err
		}
		addresses := addresses
		if len(addresses) == 0 {
			addresses = slices.Sorted(maps.Keys(d.decoded))
		}
		addresses = slices.DeleteFunc(slices.Clone(addresses), func(address string) bool {
			return !slices.Contains(helpers, d.decoded[address])
		})
		c := Change{Before: before, After: before, Helpers: d.decoded}
		want := map[string]string{}
		maps.Copy(want, d.decoded)
		for _, address := range addresses {
			i, err := d.entry(address)
			if err != nil {
				return Change{}, err
			}
			if i < 0 { // the same address twice in the list
				continue
			}
			remove(d.helpers, i)
			c.Entries = append(c.Entries, Entry{Address: address, Before: want[address]})
			delete(want, address)
		}
		if len(c.Entries) == 0 {
			return c, nil
		}
		if len(d.helpers.Members) == 0 && d.restore(origin) {
			c.After, c.Helpers = []byte(origin.Text), nil
			if origin.Missing == MissingFile {
				c.After = nil
			}
			return c, nil
		}
		return d.packed(c, want)
	}
}

// restore puts back what origin says in the place of a credHelpers without
// entries, and reports whether nothing else is left in the file.
func (d *document) restore(origin Origin) (nothingElse bool) {
	space, isEmpty := emptyObject(origin.Text)
	if origin.Missing == MissingEntries && isEmpty {
		d.helpers.AfterExtra = space
		return false
	}
	remove(d.root, d.helpersIndex())
	if len(d.root.Members) > 0 {
		return false
	}
	return origin.Missing == MissingFile || origin.Missing == MissingMembers && (isEmpty || isBlank([]byte(origin.Text)))
}

// emptyObject reports whether text is an empty object in JSON, which may stand
// in white space, and which space is in its braces.
func emptyObject(text string) (space hujson.Extra, ok bool) {
	v, err := hujson.Parse([]byte(text))
	if err != nil || !v.IsStandard() {
		return nil, false
	}
	obj, ok := v.Value.(*hujson.Object)
	if !ok || len(obj.Members) > 0 {
		return nil, false
	}
	return obj.AfterExtra, true
}
