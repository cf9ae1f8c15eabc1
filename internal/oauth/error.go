package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

// Error is a call that failed. Its text holds no URL, no secret that was sent
// and nothing of the answer but the service's own message, cleaned.
type Error struct {
	// Op is what was tried, e.g. "refreshing the token".
	Op string
	// Status is the HTTP status of the answer; 0: no whole answer came.
	Status int
	// Msg is the service's message, or what was wrong with the connection,
	// the answer or the arguments.
	Msg string
	// Unconnected: in no attempt was a TCP connection made, be it to the
	// service or to a proxy. Whoever answered, whatever the answer: false.
	Unconnected bool
	// Err is why no answer came, for errors.Is and errors.As; nil if one did
	// or nothing was sent.
	Err error
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Status != 0 && e.Status/100 != 2 {
		fmt.Fprintf(&b, ": identity service answered %d %s", e.Status, http.StatusText(e.Status))
	}
	if e.Msg != "" {
		b.WriteString(": ")
		b.WriteString(e.Msg)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Refused reports whether the service answered and would not have the
// credential.
func (e *Error) Refused() bool {
	return e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden
}

// Unreachable reports whether the service could not be asked or would not
// answer now, so that the same call may do later: no connection, TLS, no answer
// in time, 429 and 5xx. It is false when the caller gave up.
func (e *Error) Unreachable() bool {
	if e.Err != nil {
		return !errors.Is(e.Err, context.Canceled)
	}
	return e.Status == http.StatusTooManyRequests || e.Status >= 500
}

// cause is an error that is known by errors.Is and errors.As, but whose text
// is not to be had: net/http quotes URLs, and the first line of an answer that
// is not HTTP.
type cause struct {
	text string
	err  error
}

func (c *cause) Error() string        { return c.text }
func (c *cause) Is(target error) bool { return errors.Is(c.err, target) }
func (c *cause) As(target any) bool   { return errors.As(c.err, target) }

// maxMessage is how many runes of a message are shown.
const maxMessage = 200

// Clean makes text from a stranger fit for a terminal: one line of at most 200
// runes, without control characters, characters that change the direction of
// text, or invalid UTF-8.
func Clean(s string) string { return truncate(printable(s)) }

// cleanWithout is Clean with the secrets cut out.
func cleanWithout(s string, secrets []secret.String) string {
	s = printable(s)
	// Longest first: one secret may hold another.
	var words []string
	for _, sec := range secrets {
		if word := printable(sec.Reveal()); word != "" {
			words = append(words, word)
		}
	}
	slices.SortFunc(words, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, word := range words {
		pairs = append(pairs, word, "[redacted]")
	}
	return truncate(strings.NewReplacer(pairs...).Replace(s))
}

// printable is s as one line: runs of white space are one space, what cannot
// be seen is gone.
func printable(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "")), " ")
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if !isPrintable(r) {
			return -1
		}
		return r
	}, s)), " ")
}

func isPrintable(r rune) bool {
	return !unicode.IsControl(r) && !unicode.Is(unicode.Bidi_Control, r) && r != utf8.RuneError
}

func truncate(s string) string {
	n := 0
	for i := range s {
		if n == maxMessage {
			return s[:i] + "…"
		}
		n++
	}
	return s
}
