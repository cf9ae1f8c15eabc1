package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/crash"
)

const (
	eraseLine = "\r\x1b[K" // ECMA-48 §8.3.41: to the line's end
	frameTime = 120 * time.Millisecond
	// sooner than this it is no wait, and a line that flashes up tells nothing
	patienceUnseen = 400 * time.Millisecond
)

// wait tells a person that something takes time until done is called or ctx
// ends: on a terminal with a line that moves and counts seconds, elsewhere with
// one plain line. done leaves nothing of the line that moves.
func (sys system) wait(ctx context.Context, text string) (done func()) {
	if !sys.isSmart(sys.stderr) {
		sys.say("%s ...", text)
		return func() {}
	}
	return sys.progress(ctx, text, 0)
}

// waitBriefly is wait for what mostly takes no time at all: nothing is said of
// it but on a terminal, and there only if it does take time.
func (sys system) waitBriefly(ctx context.Context, text string) (done func()) {
	if !sys.isSmart(sys.stderr) {
		return func() {}
	}
	return sys.progress(ctx, text, patienceUnseen)
}

func (sys system) progress(ctx context.Context, text string, unseen time.Duration) (done func()) {
	if sys.console == nil || sys.console.quiet {
		return func() {}
	}
	text = oneLine(text)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer crash.Guard()
		defer close(ended)
		sys.move(ctx, text, unseen)
	}()
	return sync.OnceFunc(func() {
		cancel()
		<-ended
	})
}

// move draws the line until ctx ends, and wipes it away then.
func (sys system) move(ctx context.Context, text string, unseen time.Duration) {
	frames := []string{"|", "/", "-", `\`}
	if sys.takesUTF8() {
		frames = []string{"⠋", "⠙", "⠸", "⠴", "⠦", "⠇"}
	}
	began, width := time.Now(), sys.width()
	next := time.NewTimer(unseen)
	defer next.Stop()
	for frame := 0; ; frame++ {
		select {
		case <-ctx.Done():
			sys.console.redraw(sys.stderr, "")
			return
		case <-next.C:
			next.Reset(frameTime)
		}
		line := fmt.Sprintf("%s %s", frames[frame%len(frames)], text)
		if took := time.Since(began); took >= time.Second {
			line += fmt.Sprintf(" %ds", int(took.Seconds()))
		}
		sys.console.redraw(sys.stderr, cut(line, width))
	}
}

// width is how many characters a line of standard error takes: what is longer
// could not be wiped away.
func (sys system) width() int {
	const narrow = 40 // where the terminal does not say
	f, ok := sys.stderr.(*os.File)
	if !ok {
		return narrow
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil || columns < 2 {
		return narrow
	}
	return columns - 1 // in the last column some terminals wrap
}

func cut(line string, width int) string {
	if runes := []rune(line); len(runes) > width {
		return string(runes[:width])
	}
	return line
}

// redraw writes the line that moves over what was there of it, and below a
// prompt that is done with.
func (c *console) redraw(w io.Writer, line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.moving:
		line = eraseLine + line
	case c.asking && line != "":
		line = "\n" + line
		c.asking = false
	}
	c.moving = line != "" && line != eraseLine
	if line != "" {
		_, _ = io.WriteString(w, line)
	}
}
