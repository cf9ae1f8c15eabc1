package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"

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
	s := e.Op
	if e.Status != 0 && e.Status/100 != 2 {
		s += strings.TrimRight(fmt.Sprintf(": identity service answered %d %s", e.Status, http.StatusText(e.Status)), " ")
	}
	if e.Msg != "" {
		s += ": " + e.Msg
	}
	return s
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
// text, or invalid UTF-8. The secrets are cut out, as they are and as they stand
// in the JSON that was sent.
func Clean(s string, secrets ...secret.String) string {
	var words []string
	for _, sec := range secrets {
		asJSON, _ := json.Marshal(sec.Reveal())
		for _, word := range []string{sec.Reveal(), string(asJSON[1 : len(asJSON)-1]), url.QueryEscape(sec.Reveal())} {
			if word = printable(word); word != "" {
				words = append(words, word)
			}
		}
	}
	// Longest first: one may begin with another.
	slices.SortFunc(words, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, word := range words {
		pairs = append(pairs, word, "[redacted]")
	}
	redact := strings.NewReplacer(pairs...)
	// First as it came: a control sequence before a secret would take its first
	// letter along, and what is left would not be known again.
	return truncate(redact.Replace(printable(redact.Replace(s))))
}

// controlSequence is a control sequence of a terminal (ECMA-48 §5.4), e.g. a
// colour, or a control string (§5.6), e.g. its title, which BEL ends for xterm,
// too. No other control character is in a string: one without an end would cost
// the whole message, and many of them a search to the end each.
var controlSequence = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile("(?:\x1b\\[|\u009b)[0-?]*[ -/]*[@-~]" +
		"|(?:\x1b[]PX^_]|[\u0090\u0098\u009d-\u009f])[\t-\r\\P{Cc}]*(?:\a|\x1b\\\\|\u009c)")
})

// printable is s as one line: white space of any length is one space; control
// sequences and what is left of control and format characters (Unicode's C, the
// bidirectional ones with it) are gone.
func printable(s string) string {
	s = strings.ToValidUTF8(s, "")
	if strings.ContainsFunc(s, unicode.IsControl) { // hardly ever, and a token's roles are many
		s = controlSequence().ReplaceAllString(s, "")
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.Is(unicode.C, r):
			return -1
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
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
