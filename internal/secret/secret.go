// Package secret holds the type that keeps passwords, tokens and API keys out
// of logs, errors and printed structures.
package secret

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// String is text that must not be shown. Every way of formatting it says
// [redacted]; [String.Reveal] is the one way to the text itself, so that each
// use can be found by its name.
type String string

// Reveal returns the text.
func (s String) Reveal() string { return string(s) }

// String implements [fmt.Stringer].
func (s String) String() string { return redacted }

// Format implements [fmt.Formatter], for every verb.
func (s String) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements [slog.LogValuer].
func (s String) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON implements [encoding/json.Marshaler]. What has to be written
// down, an API request or a record at rest, says so with Reveal.
func (s String) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }
