package dockerconfig

import (
	"bytes"
	"strings"

	"github.com/tailscale/hujson"
)

// Masked is a file's content as it may be shown, on the same lines as before:
// every string but those of credHelpers is «…», and so is what stands before an
// @ in a member's name. Secrets lie in auths, but an HTTP header, a proxy's
// address or that of a registry can hold one too. What cannot be parsed is
// empty.
func Masked(data []byte) []byte {
	if isBlank(data) {
		return data
	}
	d, err := parse(data)
	if err != nil {
		return nil
	}
	d.maskMembers(d.root)
	return bytes.ToValidUTF8(d.tree.Pack(), []byte("\ufffd"))
}

func (d *document) mask(v *hujson.Value) {
	switch value := v.Value.(type) {
	case hujson.Literal:
		if value.Kind() == '"' {
			v.Value = hujson.Literal(`"…"`)
		}
	case *hujson.Object:
		d.maskMembers(value)
	case *hujson.Array:
		for i := range value.Elements {
			d.mask(&value.Elements[i])
		}
	}
}

func (d *document) maskMembers(obj *hujson.Object) {
	for i := range obj.Members {
		m := &obj.Members[i]
		if name := nameOf(*m); strings.Contains(name, "@") {
			m.Name.Value = hujson.String("…" + name[strings.LastIndex(name, "@"):])
		}
		if obj != d.helpers {
			d.mask(&m.Value)
		}
	}
}
