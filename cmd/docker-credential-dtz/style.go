package main

import (
	"io"
	"runtime"
	"strings"
)

// style is how text is set off on one stream. The zero style leaves it plain.
type style struct {
	color   bool // escape sequences are understood and wanted
	unicode bool // and symbols beyond ASCII can be shown
}

// styleFor is plain unless w is a terminal that is not dumb, and NO_COLOR is
// unset or empty (https://no-color.org).
func (sys system) styleFor(w io.Writer) style {
	if !sys.isSmart(w) || sys.getenv("NO_COLOR") != "" {
		return style{}
	}
	return style{color: true, unicode: sys.takesUTF8()}
}

// isSmart reports whether w is a terminal that understands escape sequences.
func (sys system) isSmart(w io.Writer) bool {
	return isTerminal(w) && sys.getenv("TERM") != "dumb" && understandsEscapes(w)
}

// takesUTF8 asks the locale as POSIX has it. Windows' consoles take UTF-16, and
// the runtime translates.
func (sys system) takesUTF8() bool {
	if runtime.GOOS == "windows" {
		return true
	}
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if locale := sys.getenv(name); locale != "" {
			charset := strings.ToLower(locale)
			return strings.Contains(charset, "utf-8") || strings.Contains(charset, "utf8")
		}
	}
	return false
}

// SGR parameters (ECMA-48 §8.3.117), of the colours that every terminal has.
func (s style) bold(text string) string { return s.set("1", text) }
func (s style) dim(text string) string  { return s.set("2", text) }
func (s style) bad(text string) string  { return s.set("31", text) }
func (s style) good(text string) string { return s.set("32", text) }
func (s style) warn(text string) string { return s.set("33", text) }

// set cleans the text, so that the only sequences in what it returns are its own.
func (s style) set(parameter, text string) string {
	text = oneLine(text)
	if !s.color || text == "" {
		return text
	}
	return "\x1b[" + parameter + "m" + text + "\x1b[0m"
}

// state is how a check has ended, as it is called where no symbol can be shown.
type state string

const (
	stateGood state = "ok"
	stateWarn state = "warning"
	stateBad  state = "FAILED"
)

// mark is the symbol of a state, or its name.
func (s style) mark(is state) string {
	if !s.color || !s.unicode {
		return string(is)
	}
	switch is {
	case stateGood:
		return s.good("✓")
	case stateWarn:
		return s.warn("!")
	}
	return s.bad("✗")
}
