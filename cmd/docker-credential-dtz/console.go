package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode"
)

// console is what the copies of a system share about its standard error: how
// much is wanted there, and the line that moves on it.
type console struct {
	quiet   bool // --quiet
	verbose bool // --verbose

	mu     sync.Mutex
	moving bool // the last line is progress, to be written over
}

// say writes a line for a person, unless --quiet is given.
func (sys system) say(format string, args ...any) {
	if sys.console != nil && sys.console.quiet {
		return
	}
	sys.writeLine(fmt.Sprintf(format, args...))
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
	sys.writeLine(sys.styleFor(sys.stderr).dim("* " + oneLine(fmt.Sprintf(format, args...))))
}

// writeLine writes to standard error, in place of the line that moves there.
func (sys system) writeLine(line string) {
	if c := sys.console; c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.moving {
			c.moving = false
			line = eraseLine + line
		}
	}
	_, _ = io.WriteString(sys.stderr, line+"\n")
}

// oneLine replaces control characters.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}
