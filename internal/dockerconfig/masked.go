package dockerconfig

import (
	"bytes"

	"github.com/tailscale/hujson"
)

// Masked is a file's content as it may be shown, on the same lines as before:
// every string but those of credHelpers is «…». Secrets lie in auths, but an
// HTTP header or a proxy's address can hold one too. What cannot be parsed is
// empty.
func Masked(data []byte) []byte {
	if isBlank(data) {
		return data
	}
	d, err := parse(data)
	if err != nil {
		return nil
	}
	for i := range d.root.Members {
		if value := &d.root.Members[i].Value; value.Value != d.helpers {
			mask(value)
		}
	}
	return bytes.ToValidUTF8(d.tree.Pack(), []byte("\ufffd"))
}

func mask(v *hujson.Value) {
	switch value := v.Value.(type) {
	case hujson.Literal:
		if value.Kind() == '"' {
			v.Value = hujson.Literal(`"…"`)
		}
	case *hujson.Object:
		for i := range value.Members {
			mask(&value.Members[i].Value)
		}
	case *hujson.Array:
		for i := range value.Elements {
			mask(&value.Elements[i])
		}
	}
}
