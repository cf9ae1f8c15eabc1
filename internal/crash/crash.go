// Package crash keeps secrets out of what a process leaves behind when it goes
// wrong: core files, and what the Go runtime prints of a panic.
package crash

import (
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// Quietly is for the beginning of main, before a secret is read. It does what
// [NoDumps] does and takes standard error, which it returns, away from the Go
// runtime: that writes the value of a panic there, the arguments of functions
// and the registers, in whichever goroutine and for a signal too, and the least
// that GOTRACEBACK lets it write is the value (package runtime, "Environment
// Variables"). What libraries log goes nowhere either.
//
// From then on [Guard] says on standard error what has happened, to the program
// of that name and version.
func Quietly(program string, version func() string) (stderr *os.File) {
	NoDumps()
	log.SetOutput(io.Discard)
	stderr = takeStderr()
	report = &reporter{to: stderr, program: program, version: version}
	return stderr
}

type reporter struct {
	to      io.Writer
	program string
	version func() string
	mu      sync.Mutex
}

var report *reporter // nil: nobody has called Quietly

// Guard is for goroutines to defer first. After [Quietly] it ends the process
// with exit code 1 on a panic, and says where that was: the type of its value
// and the functions and lines that led there, but no value. Otherwise it lets
// the panic pass.
func Guard() {
	if report == nil {
		return
	}
	if v := recover(); v != nil {
		report.mu.Lock() // for ever: one panic is enough
		report.write(v)
		os.Exit(1)
	}
}

func (r *reporter) write(v any) {
	var text strings.Builder
	fmt.Fprintf(&text, "%s: internal error: a panic (%T)\n", r.program, v)
	text.WriteString("hint: please report these lines, which hold no secret, at https://github.com/DownToZero-Cloud/docker-credential-dtz/issues\n")
	fmt.Fprintf(&text, "  %s %s (%s; %s; %s)\n", r.program, r.version(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	callers := make([]uintptr, 64)
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers)]) // 3: who called Guard
	for {
		frame, more := frames.Next()
		if !strings.HasPrefix(frame.Function, "runtime.") {
			fmt.Fprintf(&text, "  %s %s:%d\n", frame.Function, filepath.Base(frame.File), frame.Line)
		}
		if !more {
			break
		}
	}
	_, _ = io.WriteString(r.to, text.String())
}
