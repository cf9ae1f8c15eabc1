package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/crash"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

// Terminal rules: results go to standard output, all else to standard error.
// Errors read «program: what failed: why», and on a second line «hint: …» what
// mends it. Nothing is asked where nobody can answer. Colours, symbols and
// lines that move are for terminals. However the program ends, the terminal is
// as it was, and the cursor at the beginning of a line.

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// interactive reports whether somebody can be asked.
func (sys system) interactive() bool { return isTerminal(sys.stdin) }

// errNoAnswer is Ctrl-D, or a terminal that has gone, in place of an answer.
var errNoAnswer = errors.New("no answer was given")

// askLine asks for a line of text.
func (sys system) askLine(ctx context.Context, prompt string) (string, error) {
	sys.prompt(prompt, false)
	line, err := await(ctx, func() (string, error) {
		line, err := bufio.NewReader(io.LimitReader(sys.stdin, maxSecret)).ReadString('\n')
		if errors.Is(err, io.EOF) && line != "" {
			err = nil
		}
		return strings.TrimRight(line, "\r\n"), err
	})
	sys.answered(err == nil)
	if errors.Is(err, io.EOF) {
		err = errNoAnswer
	}
	return line, err
}

// askSecret asks for a line that is not shown. The terminal is in raw mode
// meanwhile: x/term's ReadPassword would leave the echo off after Ctrl-C, or
// after a Ctrl-C that came while it was turning it off.
func (sys system) askSecret(ctx context.Context, prompt string) (secret.String, error) {
	fd := int(sys.stdin.(*os.File).Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		return "", err
	}
	sys.prompt(prompt, true)
	line, err := await(ctx, func() (string, error) { return readHidden(sys.stdin) })
	restored := term.Restore(fd, before)
	sys.answered(false)
	switch {
	case errors.Is(err, errInterrupted):
		sys.console.interrupt()
		err = context.Canceled
	case errors.Is(err, io.EOF):
		err = errNoAnswer
	case err == nil:
		sys.writeLine("") // nobody has seen the answer end the line
	}
	return secret.String(line), errors.Join(err, restored)
}

// errInterrupted is Ctrl-C as a key.
var errInterrupted = errors.New("interrupted")

// Keys, as a terminal in raw mode sends them.
const (
	ctrlC         = 'C' - '@'
	ctrlD         = 'D' - '@'
	ctrlH         = 'H' - '@'
	ctrlU         = 'U' - '@'
	ctrlZ         = 'Z' - '@'
	ctrlBackslash = '\\' - '@'
	del           = 0x7f
)

// readHidden reads a line from a terminal in raw mode, and knows the keys that
// the terminal's own line editing knows. It reads no byte too many: what comes
// behind the line is for whoever asks next.
func readHidden(r io.Reader) (string, error) {
	var line []byte
	for key := make([]byte, 1); len(line) <= maxSecret; {
		if _, err := io.ReadFull(r, key); err != nil {
			return "", err
		}
		switch key[0] {
		case '\r', '\n':
			return string(line), nil
		case ctrlC, ctrlBackslash:
			return "", errInterrupted
		case ctrlD:
			if len(line) == 0 {
				return "", io.EOF
			}
			return string(line), nil
		case ctrlH, del:
			_, size := utf8.DecodeLastRune(line)
			line = line[:len(line)-size]
		case ctrlU:
			line = line[:0]
		case ctrlZ, 0:
		default:
			line = append(line, key[0])
		}
	}
	return "", errTooLong
}

// await waits for work or the end of ctx. Work that does not end is left
// behind; the process ends soon.
func await[T any](ctx context.Context, work func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		defer crash.Guard()
		value, err := work()
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return *new(T), ctx.Err()
	}
}

// confirm asks a question. Whoever just presses Enter says what otherwise is;
// where nobody answers, it is no.
func (sys system) confirm(ctx context.Context, question string, otherwise bool) (bool, error) {
	choice := " [y/N] "
	if otherwise {
		choice = " [Y/n] "
	}
	for {
		answer, err := sys.askLine(ctx, question+choice)
		if errors.Is(err, errNoAnswer) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		switch strings.ToLower(strings.TrimSpace(answer)) {
		case "":
			return otherwise, nil
		case "y", "yes":
			return true, nil
		case "n", "no":
			return false, nil
		}
		// It may be meant for the next question. Taken for a no, it would be
		// followed by a password that is typed into the shell.
		question = "Please answer y or n."
	}
}

// cutLineBreak cuts one line break off the end.
func cutLineBreak(text string) string {
	return strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
}

// maxSecret is more than any password or key, in bytes.
const maxSecret = 64 << 10

var errTooLong = errors.New("it is too long")

// readSecret reads a password or key from standard input: one line, its line
// break cut. A person at a terminal is asked for it, and told where it goes.
func (sys system) readSecret(ctx context.Context, what, where string) (secret.String, error) {
	var text string
	var err error
	if sys.interactive() {
		var typed secret.String
		typed, err = sys.askSecret(ctx, strings.ToUpper(what[:1])+what[1:]+where+" (not shown): ")
		text = typed.Reveal()
	} else {
		done := sys.waitBriefly(ctx, "Waiting for the "+what+" on standard input")
		text, err = await(ctx, func() (string, error) {
			data, err := io.ReadAll(io.LimitReader(sys.stdin, maxSecret+2))
			return cutLineBreak(string(data)), err
		})
		done()
	}
	switch {
	case err != nil:
	case len(text) > maxSecret:
		err = errTooLong
	case strings.ContainsAny(text, "\n\x00"):
		err = errors.New("more than one line on standard input")
	case text == "" && sys.interactive():
		err = errNoAnswer
	case text == "":
		err = withHint(errors.New("standard input is empty"), "send it through a pipe, or from a file: < FILE")
	}
	if err != nil {
		return "", fmt.Errorf("reading the %s: %w", what, err)
	}
	return secret.String(text), nil
}
