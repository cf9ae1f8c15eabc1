package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"runtime"
	"strings"
	"syscall"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

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

// complain prints an error and its remedy.
func (sys system) complain(err error) {
	sys.warn(withoutRemedy(err))
	if hint := hintOf(err); hint != "" {
		sys.writeLine("hint: " + oneLine(hint))
	}
}

// withoutRemedy is an error's text without its remedy, which becomes the hint.
func withoutRemedy(err error) string {
	text := err.Error()
	if e, ok := errors.AsType[*session.Error](err); ok && e.Remedy != "" {
		text = strings.TrimSuffix(text, "; "+e.Remedy)
	}
	return text
}

// hintOf is the remedy that an error brings, else one that its cause has
// wherever it turns up. Empty: there is none.
func hintOf(err error) string {
	if key, ok := errors.AsType[*session.UnrevokedError](err); ok { // whatever else went wrong
		if key.Err == nil {
			return fmt.Sprintf("look for the API key %q in the DTZ console, and delete it if it is there", key.Alias)
		}
		return fmt.Sprintf("delete the API key %q in the DTZ console: it is still valid", key.Alias)
	}
	if h, ok := errors.AsType[*hintError](err); ok {
		return h.hint
	}
	if away, ok := errors.AsType[*store.UnavailableError](err); ok && away.Store == store.FileName && isDiskFull(err) {
		return "make room there, or let XDG_STATE_HOME name another folder"
	}
	if e, ok := errors.AsType[*session.Error](err); ok && e.Remedy != "" {
		return e.Remedy
	}
	if answer, ok := errors.AsType[*oauth.Error](err); ok {
		return hintOfIdentity(answer)
	}
	if away, ok := errors.AsType[*store.UnavailableError](err); ok && away.Store == store.KeychainName {
		return "unlock it and try again"
	}
	switch {
	case errors.Is(err, config.ErrNoHome):
		return "set " + homeVariable()
	case errors.Is(err, session.ErrIdentityURL):
		return "mend or unset it"
	case errors.Is(err, errNoAnswer):
		return "nothing was changed; run it again"
	case errors.Is(err, config.ErrUnusable):
		return config.Remedy(err)
	case errors.Is(err, fs.ErrPermission):
		return "see to it that you may read and write there, and try again"
	case errors.Is(err, context.DeadlineExceeded):
		return "try again; DTZ_TIMEOUT sets how long it may take"
	}
	return ""
}

// isDiskFull reports whether err is of a file system that takes no more, for all
// or for this user, or nothing at all.
func isDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS)
}

// explainIdentity says which identity service would not take what a person has
// just given it, and adds the remedy where it was refused.
func (sys system) explainIdentity(err error, identity string) error {
	answer, ok := errors.AsType[*oauth.Error](err)
	if !ok {
		return err
	}
	told := *answer
	told.Op += at(identity)
	switch {
	case !told.Refused():
		return &told
	case identity != platform.IdentityURL && sys.getenv("DTZ_IDENTITY_URL") != "":
		return withHint(&told, "check what you typed, and DTZ_IDENTITY_URL, which chose this identity service")
	case identity != platform.IdentityURL:
		return withHint(&told, "check what you typed; a login before chose this identity service, and DTZ_IDENTITY_URL chooses another")
	}
	return withHint(&told, "check what you typed; DTZ_IDENTITY_URL chooses another identity service")
}

// at says at which identity service, with a space before it, unless it is the
// platform's: nobody is to give his password to another unawares.
func at(identity string) string {
	if identity == platform.IdentityURL {
		return ""
	}
	u, err := url.Parse(identity)
	if err != nil {
		return " at " + oauth.Clean(identity)
	}
	return " at " + u.Host
}

func hintOfIdentity(answer *oauth.Error) string {
	invalid, _ := errors.AsType[x509.CertificateInvalidError](answer)
	switch {
	case invalid.Reason == x509.Expired && invalid.Cert != nil:
		return "see whether this machine's clock is right; if it is, the certificate has to be renewed there"
	case errors.As(answer, new(*tls.CertificateVerificationError)):
		return "if a proxy of yours opens TLS, let SSL_CERT_FILE name its certificate"
	case errors.Is(answer, context.DeadlineExceeded):
		return "check the network, HTTPS_PROXY and DTZ_IDENTITY_URL; DTZ_TIMEOUT sets how long an answer may take"
	case answer.Unreachable():
		return "check the network, HTTPS_PROXY and DTZ_IDENTITY_URL, and try again"
	case answer.Status != 0 && !answer.Refused():
		return "check that DTZ_IDENTITY_URL is that of a DTZ identity service"
	}
	return ""
}

// homeVariable is where this platform has the home folder's name.
func homeVariable() string {
	if runtime.GOOS == "windows" {
		return "USERPROFILE"
	}
	return "HOME"
}
