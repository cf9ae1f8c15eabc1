package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker-credential-helpers/credentials"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/crash"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

var verbs = []string{
	credentials.ActionGet, credentials.ActionStore, credentials.ActionErase,
	credentials.ActionList, credentials.ActionVersion,
}

func isVerb(name string) bool { return slices.Contains(verbs, name) }

// maxInput is what the protocol's library can read in one line, in bytes.
const maxInput = bufio.MaxScanTokenSize - 1

// serveDocker answers one verb of Docker's credential-helper protocol and
// returns the exit code. Docker reads errors from standard output, and drops
// them on pull and push; what a person should see goes to standard error.
func (sys system) serveDocker(interrupted context.Context, verb string) int {
	limit, note := sys.timeout()
	ctx := interrupted
	changes := verb == credentials.ActionStore || verb == credentials.ActionErase
	if changes {
		ctx = context.WithoutCancel(ctx) // a change is brought to its end; a second Ctrl-C ends it all the same
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()

	if verb != credentials.ActionList && verb != credentials.ActionVersion && isTerminal(sys.stdin) {
		meant := map[string]struct{ input, wish, command string }{
			credentials.ActionGet:   {"an address", "see a token", "token"},
			credentials.ActionStore: {"a JSON object", "log in", "login"},
			credentials.ActionErase: {"an address", "log out", "logout"},
		}[verb]
		fmt.Fprintf(sys.stderr, "%s: %s is called by Docker and reads %s on standard input\nhint: to %s, run %q\n",
			program, verb, meant.input, meant.wish, program+" "+meant.command)
		return exitUsage
	}
	answer, err := inTime(ctx, func(ctx context.Context, asked chan<- config.Address) (string, error) {
		return sys.handle(ctx, verb, asked)
	})
	if err == nil {
		_, _ = io.WriteString(sys.stdout, answer)
		if note != "" {
			sys.warn(note)
		}
		return exitOK
	}
	if interrupted.Err() != nil && !changes {
		return exitInterrupted
	}
	var e *session.Error
	outcome := session.Outcome("")
	if errors.As(err, &e) {
		outcome = e.Outcome
	}
	told := err
	if outcome == session.NotOurs || outcome == session.NotLoggedIn {
		told = credentials.NewErrCredentialsNotFound()
	}
	fmt.Fprintln(sys.stdout, oneLine(told.Error()))
	if outcome != session.NotOurs { // and there one line has to say it all
		if note != "" {
			err = fmt.Errorf("%w (%s)", err, note)
		}
		sys.warn(err.Error())
	}
	return exitFailure
}

// inTime computes the whole answer before a byte of it is written, and ends with
// ctx whatever handle waits for: an input that does not end, a named pipe in
// place of a file. Once handle knows the address that it is asked about, it
// sends it, for the error of an answer that comes too late.
func inTime(ctx context.Context, handle func(ctx context.Context, asked chan<- config.Address) (string, error)) (string, error) {
	type result struct {
		text string
		err  error
	}
	done := make(chan result, 1)
	asked := make(chan config.Address, 1)
	go func() {
		defer crash.Guard()
		text, err := handle(ctx, asked)
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		return r.text, r.err
	case <-ctx.Done():
	}
	// What it waits for mostly ends with ctx too, and with a better error.
	select {
	case r := <-done:
		return r.text, r.err
	case <-time.After(200 * time.Millisecond):
	}
	late := &session.Error{Outcome: session.Unreachable, What: "no answer in time", Remedy: "DTZ_TIMEOUT sets how long it may take"}
	select {
	case late.Address = <-asked:
	default: // the address itself has not come yet
	}
	return "", late
}

func (sys system) handle(ctx context.Context, verb string, asked chan<- config.Address) (string, error) {
	var input []byte
	if verb != credentials.ActionList && verb != credentials.ActionVersion {
		var err error
		if input, err = sys.readInput(ctx, maxInput); err != nil {
			return "", err
		}
		if text := cutLineBreak(string(input)); verb != credentials.ActionStore && (text != strings.TrimSpace(text) || strings.Contains(text, "\n")) {
			// The library would cut white space of every kind, and join lines to
			// an address that nobody wrote.
			input = []byte("more than an address")
		}
	}
	credentials.Name, credentials.Package, credentials.Version = program, "github.com/DownToZero-Cloud/"+program, buildVersion()
	var out bytes.Buffer
	h := dockerHelper{ctx, sys, sys.session(patienceForDocker), asked}
	err := credentials.HandleCommand(h, verb, bytes.NewReader(input), &out)
	return out.String(), err
}

// readInput reads standard input to its end, of at most limit bytes. It is left
// behind when ctx ends.
func (sys system) readInput(ctx context.Context, limit int) (input []byte, err error) {
	var read []byte // its own variable: who is left behind may still write it
	done := make(chan error, 1)
	go func() {
		defer crash.Guard()
		var err error
		read, err = io.ReadAll(io.LimitReader(sys.stdin, int64(limit)+1))
		done <- err
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		return nil, errors.New("standard input did not end in time; whoever writes to it has to close it")
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading standard input: %w", err)
	case len(read) > limit:
		return nil, fmt.Errorf("standard input is over %d bytes", limit)
	}
	return read, nil
}

// dockerHelper is the policy as Docker's protocol sees it.
type dockerHelper struct {
	ctx     context.Context
	sys     system
	session *session.Session
	asked   chan<- config.Address // as inTime has it
}

// Get answers docker pull, push and all the rest.
func (h dockerHelper) Get(serverURL string) (username, password string, err error) {
	address, err := config.ParseAddress(serverURL)
	if err != nil {
		return "", "", &session.Error{Outcome: session.NotOurs}
	}
	h.asked <- address
	cred, err := h.session.Credential(h.ctx, session.Request{Address: address})
	if err != nil {
		return "", "", err
	}
	h.sys.trace("%s is served by the %s", address, cred.Source.Describe())
	for _, note := range cred.Notes {
		h.sys.warn(address.String() + ": " + note)
	}
	return cred.Username, cred.Secret.Reveal(), nil
}

// Add answers docker login.
func (h dockerHelper) Add(creds *credentials.Credentials) error {
	address, err := config.ParseAddress(creds.ServerURL)
	if err != nil {
		return fmt.Errorf("%s: %w", oauth.Clean(creds.ServerURL), err)
	}
	h.asked <- address
	newStore, err := h.sys.newStore(h.session.HasStore(store.FileName))
	if err != nil && !errors.Is(err, errNotOptedIn) {
		return err
	}
	notes, err := h.session.Keep(h.ctx, address, creds.Username, secret.String(creds.Secret), newStore)
	for _, note := range notes {
		h.sys.warn(address.String() + ": " + note)
	}
	return err
}

// Delete answers docker logout.
func (h dockerHelper) Delete(serverURL string) error {
	address, err := config.ParseAddress(serverURL)
	if err != nil {
		return nil // nothing of it is here
	}
	h.asked <- address
	note, err := h.session.Erase(h.ctx, address)
	if note != "" {
		h.sys.warn(note)
	}
	return err
}

// List is not called by Docker for a credHelpers entry.
func (h dockerHelper) List() (map[string]string, error) {
	return h.session.List(h.ctx)
}
