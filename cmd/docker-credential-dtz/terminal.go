package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

// Terminal rules: results go to standard output, all else to standard error.
// Errors read «program: what failed: why», and on a second line «hint: …» what
// mends it. Nothing is asked where nobody can answer.

// hintError is an error with its remedy.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

func withHint(err error, format string, args ...any) error {
	return &hintError{err, fmt.Sprintf(format, args...)}
}

// usageError is a command line that cannot be carried out as it stands.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// interactive reports whether somebody can be asked.
func (sys system) interactive() bool { return isTerminal(sys.stdin) }

// askLine asks for a line of text.
func (sys system) askLine(ctx context.Context, prompt string) (string, error) {
	fmt.Fprint(sys.stderr, prompt)
	return sys.untilInterrupt(ctx, func() (string, error) {
		line, err := bufio.NewReader(io.LimitReader(sys.stdin, maxSecret)).ReadString('\n')
		if errors.Is(err, io.EOF) && line != "" {
			err = nil
		}
		return strings.TrimRight(line, "\r\n"), err
	})
}

// askSecret asks for a line that is not shown.
func (sys system) askSecret(ctx context.Context, prompt string) (secret.String, error) {
	fmt.Fprint(sys.stderr, prompt)
	line, err := sys.untilInterrupt(ctx, func() (string, error) {
		line, err := term.ReadPassword(int(sys.stdin.(*os.File).Fd()))
		return string(line), err
	})
	fmt.Fprintln(sys.stderr)
	return secret.String(line), err
}

// untilInterrupt waits for read or the end of ctx, and leaves the terminal as
// it was: x/term would leave it without echo after Ctrl-C.
func (sys system) untilInterrupt(ctx context.Context, read func() (string, error)) (string, error) {
	fd := int(sys.stdin.(*os.File).Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	type result struct {
		line string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		line, err := read()
		done <- result{line, err}
	}()
	select {
	case r := <-done:
		return r.line, r.err
	case <-ctx.Done():
		return "", errors.Join(ctx.Err(), term.Restore(fd, before))
	}
}

// confirm asks a question whose answer is no unless somebody says yes.
func (sys system) confirm(ctx context.Context, question string) (bool, error) {
	answer, err := sys.askLine(ctx, question+" [y/N] ")
	if err != nil {
		return false, err
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes", nil
}

// cutLineBreak cuts one line break off the end.
func cutLineBreak(text string) string {
	return strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
}

// maxSecret is more than any password or key, in bytes.
const maxSecret = 64 << 10

// readSecret reads a password or key from standard input: one line, its line
// break cut.
func (sys system) readSecret(ctx context.Context, what string) (secret.String, error) {
	type result struct {
		data []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		data, err := io.ReadAll(io.LimitReader(sys.stdin, maxSecret+1))
		done <- result{data, err}
	}()
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	text := cutLineBreak(string(r.data))
	switch {
	case r.err != nil:
		return "", fmt.Errorf("reading the %s: %w", what, r.err)
	case len(r.data) > maxSecret || strings.ContainsAny(text, "\n\x00"):
		return "", fmt.Errorf("reading the %s: more than one line on standard input", what)
	case text == "":
		return "", fmt.Errorf("reading the %s: standard input is empty", what)
	}
	return secret.String(text), nil
}
