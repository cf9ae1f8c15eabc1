package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// stay exchanges the token of a login without --context for one in the context
// that the same person's login was in before. Where the identity service gives
// none, it is the identity's own, and that is said; where the service is out of
// reach, whether there is one is not known, and the login fails.
func (sys system) stay(before *store.Login, got oauth.Token, o loginOptions, identity string, exchange func(contextID string) (oauth.Token, error)) (_ oauth.Token, stayed bool, err error) {
	if o.context != "" || before == nil || before.Context == "" ||
		!platform.SameID(before.Subject, got.Claims.Subject) || platform.SameContext(before.Context, got.Claims.Context) {
		return got, false, nil
	}
	there, err := exchange(before.Context)
	if err == nil {
		return there, true, nil
	}
	was, is := oauth.Clean(before.Context), oauth.Clean(got.Claims.Context)
	answer, ok := errors.AsType[*oauth.Error](err)
	switch {
	case ok && answer.Unreachable():
		err = fmt.Errorf("working in context %s as before: %w", was, sys.explainIdentity(err, identity))
		return oauth.Token{}, false, withHint(err, "try again, or add --context %s to work there", is)
	case ok && answer.Status != 0:
		sys.warn(fmt.Sprintf("warning: the context is %s, not %s as before: %v", is, was, err))
		return got, false, nil
	}
	return oauth.Token{}, false, err
}

// sameKey reports whether the login before was one by this API key.
func sameKey(before *store.Login, key secret.String) bool {
	return before != nil && before.Key == key
}

// noteDefault says when the same person's new login has another default context
// than the one before, and nobody chose that.
func (sys system) noteDefault(before, login *store.Login) {
	if before == nil || !platform.SameID(before.Subject, login.Subject) || platform.SameContext(before.Context, login.Context) {
		return
	}
	old := oauth.Clean(before.Context)
	sys.warn(fmt.Sprintf("note: the default context was %s before this login; %s", old, session.Run(program+" context use "+old)))
}

// refusedContext says which contexts there are to one who was refused another.
func refusedContext(err error, wanted string, own oauth.Claims) error {
	answer, ok := errors.AsType[*oauth.Error](err)
	if !ok || !answer.Refused() {
		return err
	}
	mine := own.Contexts
	if len(mine) == 0 { // an older token names none but its own
		mine = []string{own.Context}
	}
	return withHint(fmt.Errorf("working in context %s: %w", oauth.Clean(wanted), err), "you may use %s", oauth.Clean(strings.Join(mine, ", ")))
}
