package dockerconfig

import (
	"bytes"
	"slices"

	"github.com/tailscale/hujson"
)

// insert puts an entry at the end of credHelpers, and credHelpers, if it is not
// there, at the end of the file. White space is copied from the neighbours;
// where there are none, it is Docker's own: a line each, indented by tabs.
func (d *document) insert(address, helper string) {
	if d.helpers == nil {
		d.helpers = &hujson.Object{}
		outer := member(credHelpers, d.helpers)
		if len(d.root.Members) == 0 {
			outer.Name.BeforeExtra = d.lineBreak("\t")
			outer.Value.BeforeExtra = hujson.Extra(" ")
			d.root.AfterExtra = d.lineBreak("")
		}
		appendMember(d.root, outer)
	}
	entry := member(address, hujson.String(helper))
	if len(d.helpers.Members) == 0 {
		entry.Name.BeforeExtra, d.helpers.AfterExtra = d.innerSpace()
		outer := d.root.Members[d.helpersIndex()]
		entry.Name.AfterExtra, entry.Value.BeforeExtra = outer.Name.AfterExtra, outer.Value.BeforeExtra
	}
	appendMember(d.helpers, entry)
}

func member(name string, value hujson.ValueTrimmed) hujson.ObjectMember {
	return hujson.ObjectMember{Name: hujson.Value{Value: hujson.String(name)}, Value: hujson.Value{Value: value}}
}

func (d *document) helpersIndex() int {
	return slices.IndexFunc(d.root.Members, func(m hujson.ObjectMember) bool { return m.Value.Value == d.helpers })
}

func (d *document) lineBreak(indent string) hujson.Extra {
	if bytes.Contains(d.data, []byte("\r\n")) {
		return hujson.Extra("\r\n" + indent)
	}
	return hujson.Extra("\n" + indent)
}

// innerSpace is the white space before the first entry of an empty credHelpers
// and before its closing brace: one step further in than the object around it,
// or on the same line if that is.
func (d *document) innerSpace() (before, after hujson.Extra) {
	outer := lastLine(d.root.Members[d.helpersIndex()].Name.BeforeExtra)
	if outer == nil {
		before, after = d.root.Members[0].Name.BeforeExtra, d.root.AfterExtra
		if lastLine(before) != nil || lastLine(after) != nil {
			return nil, nil
		}
		return before, after
	}
	step := bytes.TrimPrefix(indentation(outer), indentation(d.root.AfterExtra))
	return slices.Concat(outer, step), outer
}

// appendMember appends m to obj. If obj has members, white space is the last
// one's.
func appendMember(obj *hujson.Object, m hujson.ObjectMember) {
	if n := len(obj.Members); n > 0 {
		last := &obj.Members[n-1]
		m.Name.AfterExtra, m.Value.BeforeExtra = last.Name.AfterExtra, last.Value.BeforeExtra
		m.Name.BeforeExtra = last.Name.BeforeExtra
		switch line := lastLine(last.Name.BeforeExtra); {
		case line != nil:
			m.Name.BeforeExtra = line // without the blank lines before it
		case n == 1 && len(last.Name.BeforeExtra) == 0:
			m.Name.BeforeExtra = last.Value.BeforeExtra // {"a": 1, "b": 2}
		}
		if n > 1 {
			last.Value.AfterExtra = obj.Members[n-2].Value.AfterExtra // commas first
		}
	}
	obj.Members = append(obj.Members, m)
}

// remove removes the member at i, which leaves no trace of it.
func remove(obj *hujson.Object, i int) {
	switch last := len(obj.Members) - 1; {
	case last == 0:
		obj.AfterExtra = nil
	case i == last:
		obj.Members[i-1].Value.AfterExtra = nil // or hujson writes a comma
	case i == 0:
		obj.Members[1].Name.BeforeExtra = obj.Members[0].Name.BeforeExtra
	}
	obj.Members = slices.Delete(obj.Members, i, i+1)
}

// lastLine is the last line break in white space and what follows; nil: there
// is none.
func lastLine(space hujson.Extra) hujson.Extra {
	i := bytes.LastIndexByte(space, '\n')
	if i < 0 {
		return nil
	}
	if i > 0 && space[i-1] == '\r' {
		i--
	}
	return space[i:]
}

// indentation is what white space leaves on its last line.
func indentation(space hujson.Extra) hujson.Extra {
	return space[bytes.LastIndexByte(space, '\n')+1:]
}
