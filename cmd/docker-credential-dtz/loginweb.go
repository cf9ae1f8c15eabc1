package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/cli/browser"
	"github.com/spf13/pflag"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/crash"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

type webOptions struct {
	web          bool
	clientID     string
	redirectPort int
	noBrowser    bool
}

func (o *webOptions) addFlags(f *pflag.FlagSet) {
	f.BoolVar(&o.web, "web", false, "log in in the browser (experimental)")
	f.StringVar(&o.clientID, "client-id", "", "with --web: `id` of the OAuth client, which is a context of yours (default: --context, or that of the login before)")
	f.IntVar(&o.redirectPort, "redirect-port", 0, "with --web: `port` of 127.0.0.1 that the browser comes back to (default: any free one)")
	f.BoolVar(&o.noBrowser, "no-browser", false, "with --web: open no browser, print the address to visit")
}

func (o webOptions) check() error {
	if !o.web && (o.clientID != "" || o.redirectPort != 0 || o.noBrowser) {
		return usagef("--client-id, --redirect-port and --no-browser need --web")
	}
	if o.redirectPort < 0 || o.redirectPort > 65535 {
		return usagef("--redirect-port %d is no port: they go from 1 to 65535", o.redirectPort)
	}
	if o.redirectPort == 80 { // the redirect would come to another host than the one listened for
		return usagef("--redirect-port 80 does not work: browsers leave that port out of the address")
	}
	return nil
}

// loginWeb has the user log in in a browser. Until made.tell is called the
// browser's window waits for the end.
func (sys system) loginWeb(ctx context.Context, s *session.Session, place config.Login, client *oauth.Client, o loginOptions) (_ made, err error) {
	sys.say("login --web is experimental: DTZ does not document browser logins of programs on your own machine.")
	clientID, wanted, err := sys.webClient(ctx, s, place, o)
	if err != nil {
		return made{}, err
	}
	done := sys.waitBriefly(ctx, waitingForIdentity)
	b, err := client.Browser(ctx, oauth.BrowserOptions{ClientID: clientID, Port: o.redirectPort})
	done()
	if err != nil {
		return made{}, explainWeb(err)
	}
	tell := func(login *store.Login, err error) { b.Finish(ctx, endPage(login, err)) }
	defer func() {
		if err != nil {
			tell(nil, err)
		}
	}()

	got, err := sys.browse(ctx, b, o.noBrowser)
	if err != nil {
		return made{}, explainWeb(err)
	}
	defer sys.waitBriefly(ctx, waitingForIdentity)()
	if wanted != "" && !platform.SameContext(wanted, got.Claims.Context) {
		own := got.Claims
		if got, err = client.Refresh(ctx, got.Access, wanted); err != nil {
			return made{}, refusedContext(err, wanted, own)
		}
	}
	user := sys.email(ctx, client, got)
	m := made{login: session.FromToken(store.Browser, user, got), undo: func() error { return nil }}
	if o.keep {
		if m, err = sys.keepKey(ctx, client, user, got); err != nil {
			return made{}, err
		}
	}
	m.tell, m.ahead = tell, got.ClockAhead()
	return m, nil
}

// webClient is the OAuth client to log in with, and the context that the login
// is to be in, where that is known. On this platform a context is the client,
// so one has to be known before anybody has logged in.
func (sys system) webClient(ctx context.Context, s *session.Session, place config.Login, o loginOptions) (clientID, contextID string, err error) {
	clientID, contextID = o.clientID, o.context
	if clientID == "" && contextID == "" {
		contextID = s.LastContext(ctx, place)
	}
	if clientID == "" && contextID == "" && sys.interactive() {
		sys.say("A login in the browser needs the id of a context that you may use. %s", whereContexts)
		contextID, err = sys.askLine(ctx, "Context id (context-…): ")
		if err != nil {
			return "", "", fmt.Errorf("reading the context id: %w", err)
		}
		contextID = strings.TrimSpace(contextID)
	}
	clientID = cmp.Or(clientID, contextID)
	if clientID == "" {
		return "", "", withHint(
			usagef("login --web needs the id of a context that you may use, which is the client in DTZ's OAuth"),
			"add --context ID. %s", whereContexts)
	}
	for _, id := range []string{clientID, contextID} {
		if id != "" && !oauth.IsContextID(id) {
			// Not quoted: it may be an API key that was pasted here.
			return "", "", withHint(usagef("that is no context's id, such as context-abc12345"), "%s", whereContexts)
		}
	}
	return clientID, contextID, nil
}

const whereContexts = "DTZ shows the current one at the top left of dtz.rocks."

// browse waits for the browser: one that it opens itself, else one that the
// user opens wherever he likes.
func (sys system) browse(ctx context.Context, b *oauth.BrowserLogin, noBrowser bool) (oauth.Token, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	opens := !noBrowser && sys.hasBrowser()
	if opens {
		sys.say("Your browser opens this address; log in there:")
	} else {
		sys.say("Visit this address in a browser, and log in there:")
	}
	sys.writeLine("\n  " + b.URL + "\n") // --quiet would leave the user nothing to do

	waiting := fmt.Sprintf("Waiting for the browser, for %.0f minutes at most", oauth.BrowserPatience.Minutes())
	stop := func() {}
	unopened := make(chan error, 1) // nil: on purpose
	if opens {
		stop = sys.wait(ctx, waiting)
		go func() {
			defer crash.Guard()
			if err := sys.openBrowser(b.URL); err != nil {
				unopened <- err
			}
		}()
	} else {
		unopened <- nil
	}
	type result struct {
		token oauth.Token
		err   error
	}
	back := make(chan result, 1)
	go func() {
		defer crash.Guard()
		token, err := b.Wait(ctx)
		back <- result{token, err}
	}()
	var pasted chan bool // what is asked for it says; nil while nothing is asked
	for {
		select {
		case err := <-unopened:
			stop()
			if err != nil {
				sys.say("No browser could be opened (%v): visit the address yourself.", err)
			}
			pasted = make(chan bool, 1)
			go func() {
				defer crash.Guard()
				pasted <- sys.askRedirect(ctx, b)
			}()
		case done := <-pasted:
			pasted = nil
			if !done && ctx.Err() == nil {
				stop = sys.wait(ctx, waiting)
			}
		case r := <-back:
			cancel()
			if pasted != nil {
				<-pasted // so that the terminal is as it was
			}
			stop()
			return r.token, r.err
		}
	}
}

// askRedirect takes the address at which the browser ended, from where it
// cannot reach this machine. It is not shown: for a moment it is worth a login.
// If there is none to be had, the browser may still come by itself.
func (sys system) askRedirect(ctx context.Context, b *oauth.BrowserLogin) (done bool) {
	if !sys.interactive() {
		sys.say("In the end it has to reach %s on this machine.", b.RedirectURI)
		return false
	}
	sys.say("If it ends at %s? and cannot show that, being on another machine,", b.RedirectURI)
	sys.say("paste the whole of that address here.")
	for {
		address, err := sys.askSecret(ctx, "Address (not shown): ")
		if err == nil {
			err = b.Paste(address.Reveal())
		} else if !errors.Is(err, errTooLong) {
			return false
		}
		if err == nil {
			return true
		}
		sys.say("Not that: %v. Wanted is one that begins with %s", err, b.RedirectURI)
	}
}

// hasBrowser reports whether a browser's window would open before the user's
// eyes, and not in his terminal or on another machine.
func (sys system) hasBrowser() bool {
	if sys.chosenBrowser() != "" {
		return true
	}
	if sys.getenv("SSH_CONNECTION") != "" || sys.getenv("SSH_TTY") != "" {
		return false
	}
	switch runtime.GOOS {
	case "darwin", "windows":
		return true
	}
	return sys.getenv("DISPLAY") != "" || sys.getenv("WAYLAND_DISPLAY") != "" || sys.inWSL()
}

// opener is the command that opens an address, which goes behind it. nil: it is
// left to what the system has for that.
func (sys system) opener() []string {
	if program := sys.chosenBrowser(); program != "" {
		return []string{program}
	}
	if !sys.inWSL() {
		return nil
	}
	// Before xdg-open, which is often there without any browser of Linux'. Not
	// cmd.exe, which would take the address's & for its own, nor wslview, which
	// puts it into a command of PowerShell. Where xdg-open or BROWSER lead there
	// all the same, [oauth.CheckBaseURL] has left nothing to expand in it.
	if path, err := exec.LookPath("rundll32.exe"); err == nil {
		return []string{path, "url.dll,FileProtocolHandler"}
	}
	return nil
}

// chosenBrowser is the first program of BROWSER that is there and needs no
// terminal. Editors set it where they carry the address to another machine.
func (sys system) chosenBrowser() string {
	if runtime.GOOS == "windows" {
		return "" // knows no such variable, and has colons in paths
	}
	for program := range strings.SplitSeq(sys.getenv("BROWSER"), ":") {
		if slices.Contains([]string{"lynx", "links", "links2", "elinks", "w3m", "www-browser"}, filepath.Base(program)) {
			continue
		}
		if path, err := exec.LookPath(program); err == nil {
			return path
		}
	}
	return ""
}

// openBrowser returns when the browser has been told, or has been closed again,
// which is up to the browser. What it prints is nobody's concern.
func (sys system) openBrowser(url string) error {
	// A file, and no pipe: the browser outlives us.
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	if opener := sys.opener(); opener != nil {
		cmd := exec.Command(opener[0], append(opener[1:], url)...)
		cmd.Stdout, cmd.Stderr = null, null
		return cmd.Run()
	}
	browser.Stdout, browser.Stderr = null, null
	return browser.OpenURL(url)
}

// email is who has logged in, in words that a person knows. Not to know it is
// no failure.
func (sys system) email(ctx context.Context, client *oauth.Client, got oauth.Token) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	email, err := client.Email(ctx, got.Access)
	if err != nil {
		return ""
	}
	return email
}

// endPage is what the browser shows in the end.
func endPage(login *store.Login, err error) oauth.Page {
	switch {
	case errors.Is(err, context.Canceled):
		return oauth.Page{Problem: "The login was interrupted in the terminal."}
	case err != nil:
		return oauth.Page{
			Problem: sentence(strings.TrimPrefix(withoutRemedy(err), "logging in: ")), // the heading says so
			Remedy:  sentence(hintOf(err)),
		}
	}
	return oauth.Page{User: oauth.Clean(login.User), Identity: oauth.Clean(login.Subject), Context: oauth.Clean(login.Context)}
}

// sentence is a message of ours as a page has it.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// explainWeb says what mends a login in the browser that failed.
func explainWeb(err error) error {
	answer, answered := errors.AsType[*oauth.Error](err)
	refused, isRefused := errors.AsType[*oauth.AuthorizationError](err)
	switch {
	case isRefused && refused.Code == "access_denied":
		err = withHint(err, "log in as somebody who may use that context, or choose another with --context ID")
	case errors.Is(err, oauth.ErrNobodyCame):
		err = withHint(err, "run it again: with another --context if the page was an error about client_id, with --no-browser if there is no browser here")
	case errors.Is(err, oauth.ErrNotListening):
		err = withHint(err, "choose another --redirect-port, or leave it out")
	case isRefused, answered && answer.Err == nil: // what came is not as it should be
		err = withHint(err, "run it again, or log in with a password: %q", program+" login")
	}
	return fmt.Errorf("logging in: %w", err)
}
