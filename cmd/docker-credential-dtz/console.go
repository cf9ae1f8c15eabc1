package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"
)

// console is what the copies of a system share: how much is wanted on standard
// error, what its last line is, and how to end it all.
type console struct {
	quiet     bool   // --quiet
	verbose   bool   // --verbose
	interrupt func() // as Ctrl-C does, where that is a key and no signal

	mu     sync.Mutex
	moving bool // the last line is progress, to be written over
	asking bool // the last line is a prompt, to be left as it is
	raw    bool // the terminal needs carriage returns
}

// styled is text of a style's making, for [lineOf].
type styled string

// say writes a line for a person, unless --quiet is given. Whatever its
// arguments hold, no escape sequence but those of styled ones is written.
func (sys system) say(format string, args ...any) {
	if sys.console != nil && sys.console.quiet {
		return
	}
	sys.writeLine(lineOf(format, args))
}

// lineOf is a line for a terminal: no escape sequence is in it but those of
// styled arguments.
func lineOf(format string, args []any) string {
	clean := slices.Clone(args)
	for i, arg := range args {
		if _, ok := arg.(styled); !ok {
			clean[i] = cleaned{arg}
		}
	}
	return fmt.Sprintf(format, clean...)
}

// printJSON writes v to standard output. Of what a terminal would not just show,
// encoding/json escapes the control characters of ASCII only.
func (sys system) printJSON(v any) error {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	var text strings.Builder
	for _, r := range out.String() {
		if r == '\n' || unicode.IsGraphic(r) {
			text.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) { // RFC 8259 §7
			fmt.Fprintf(&text, `\u%04x`, unit)
		}
	}
	_, err := io.WriteString(sys.stdout, text.String())
	return err
}

// cleaned is printed by fmt as arg is, but on one line.
type cleaned struct{ arg any }

func (c cleaned) Format(f fmt.State, verb rune) {
	_, _ = io.WriteString(f, oneLine(fmt.Sprintf(fmt.FormatString(f, verb), c.arg)))
}

// warn writes one line that --quiet does not silence, whatever a path or
// variable in it holds.
func (sys system) warn(line string) {
	sys.writeLine(program + ": " + oneLine(line))
}

// trace writes one line under --verbose: what was asked, read or written. The
// arguments must hold no secret.
func (sys system) trace(format string, args ...any) {
	if sys.console == nil || !sys.console.verbose {
		return
	}
	sys.writeLine(sys.styleFor(sys.stderr).dim("* " + fmt.Sprintf(format, args...)))
}

// writeLine writes a line to standard error: in place of one that moves there,
// below a prompt.
func (sys system) writeLine(line string) {
	newline := "\n"
	if c := sys.console; c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.raw {
			newline = "\r\n"
		}
		switch {
		case c.moving:
			line = eraseLine + line
		case c.asking && line != "":
			line = newline + line
		}
		c.moving, c.asking = false, false
	}
	_, _ = io.WriteString(sys.stderr, line+newline)
}

// prompt leaves the cursor behind text, for the answer.
func (sys system) prompt(text string, raw bool) {
	c := sys.console
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asking, c.raw = true, raw
	_, _ = io.WriteString(sys.stderr, text)
}

// answered notes that the terminal is cooked again, and whether the answer has
// ended the prompt's line.
func (sys system) answered(ended bool) {
	c := sys.console
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw = false
	c.asking = c.asking && !ended
}

// maxLine is more than a line with the longest path in it has, in bytes.
const maxLine = 8 << 10

// oneLine is text as it may stand in a line of a terminal, whoever wrote it: in
// place of a control character is a space, of a separator of lines or another of
// Unicode's C, with which text is turned around or hidden, U+FFFD. Tabs stay, and
// what is too long for anybody to read is cut.
func oneLine(text string) string {
	if len(text) > maxLine {
		text = strings.ToValidUTF8(text[:maxLine], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return r
		case unicode.IsControl(r):
			return ' '
		case unicode.In(r, unicode.C, unicode.Zl, unicode.Zp):
			return unicode.ReplacementChar
		}
		return r
	}, text)
}
