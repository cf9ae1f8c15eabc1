package session

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

const platformRegistry config.Address = platform.RegistryHost

// Outcome is why there is no credential. Each has its own remedy, so they are
// kept apart.
type Outcome string

const (
	NotOurs       Outcome = "not ours"      // an address that nothing of ours serves: silence
	NotLoggedIn   Outcome = "not logged in" // an address of ours without a login
	Expired       Outcome = "expired"       // every token of the login has ended
	Refused       Outcome = "refused"       // the identity service would not have the credential
	Unreachable   Outcome = "unreachable"   // the identity service is away, or answers nonsense
	StoreAway     Outcome = "store away"    // the keychain is out of reach
	Misconfigured Outcome = "misconfigured" // a file or variable of ours cannot be used
	unconnected   Outcome = "not connected" // Unreachable, and not even a connection was made
	unsaved       Outcome = "not saved"     // a token for one process, which others cannot have
)

// Error says why there is no credential, and what mends it.
type Error struct {
	Outcome Outcome
	Address config.Address // empty where none was asked for
	What    string
	Remedy  string // a sentence's part, e.g. run "docker-credential-dtz login"
	Err     error  // the cause, if there is one
}

func (e *Error) Error() string {
	text := e.What
	if e.Address != "" {
		text = fmt.Sprintf("%s: %s", e.Address, text)
	}
	if e.Remedy != "" {
		text += "; " + e.Remedy
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// explain makes err an *Error about address. What was passed over before it
// belongs to the story.
func (s *Session) explain(err error, address config.Address, notes []string) *Error {
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Outcome: Misconfigured, What: err.Error(), Err: err}
	}
	told := *e
	told.Address = address
	if told.Outcome == unconnected {
		told.Outcome = Unreachable
	}
	if len(notes) > 0 {
		told.What += " (" + strings.Join(notes, "; ") + ")"
	}
	return &told
}

// fromIdentity turns the identity service's answer into ours.
func fromIdentity(got oauth.Token, err error, refused string) (store.Token, error) {
	if err != nil {
		return store.Token{}, identityError(err, refused)
	}
	return fromAnswer(got), nil
}

// identityError is a failed call to the identity service. Refused says what it
// would not have.
func identityError(err error, refused string) *Error {
	var answer *oauth.Error
	e := &Error{Outcome: Unreachable, What: err.Error(), Remedy: Run("docker-credential-dtz doctor"), Err: err}
	switch {
	case !errors.As(err, &answer):
	case answer.Refused():
		e.Outcome, e.Remedy = Refused, ""
		e.What = refused + " by the identity service"
		if answer.Msg != "" {
			e.What += ": " + answer.Msg
		}
	case answer.Unconnected:
		e.Outcome = unconnected
		e.What = "identity service out of reach: " + reason(answer)
	case answer.Unreachable():
		e.What = "identity service out of reach: " + reason(answer)
	}
	return e
}

func fromAnswer(got oauth.Token) store.Token {
	return store.Token{
		Context: got.Claims.Context, Access: got.Access,
		Received: got.Received, Lifetime: got.Lifetime,
	}
}

func reason(e *oauth.Error) string {
	if e.Status == 0 {
		return e.Msg
	}
	answered := fmt.Sprintf("it answered %d %s", e.Status, http.StatusText(e.Status))
	if e.Msg != "" {
		answered += ": " + e.Msg
	}
	return answered
}

// noLogin reports whether a store says that there is no login, or none that can
// ever be read.
func noLogin(err error) bool {
	var damaged *store.DamagedError
	return errors.Is(err, store.ErrNotFound) || errors.As(err, &damaged)
}

// fromStore is a store's error as an *Error. What mends a store that is out of
// reach is for the caller to say.
func fromStore(err error) error {
	e := &Error{What: err.Error(), Err: err}
	switch {
	case errors.Is(err, store.ErrNotFound):
		e.Outcome, e.What = NotLoggedIn, "not logged in"
	case noLogin(err):
		e.Outcome = NotLoggedIn
	default:
		e.Outcome = StoreAway
	}
	return e
}

// fromStoreOf is fromStore for a login at place that is to serve the addresses.
func fromStoreOf(place config.Login, addresses []config.Address, err error) error {
	told := fromStore(err)
	if e, ok := told.(*Error); ok && e.Outcome == StoreAway {
		e.Remedy = remedyStore(err, place.Store, LoginCommand{Addresses: addresses, Profile: place.Profile})
	}
	return told
}

// remedyStore is what mends a store that is out of reach by err, for who would
// make the login.
func remedyStore(err error, name string, login LoginCommand) string {
	if name == store.FileName {
		return Run("docker-credential-dtz status")
	}
	login.Insecure = true
	if away, ok := errors.AsType[*store.UnavailableError](err); ok && (away.Reason == store.NoBus || away.Reason == store.NoService) {
		return fmt.Sprintf("there is nothing to unlock: set DTZ_API_KEY, or run %q", login)
	}
	return fmt.Sprintf("unlock it, set DTZ_API_KEY, or run %q", login)
}

// fromStoreAgain is fromStore where no other store or variable would help: to
// whoever wants a login gone.
func fromStoreAgain(err error) error {
	told := fromStore(err)
	if e, ok := told.(*Error); ok && e.Outcome == StoreAway {
		e.Remedy = "make it reachable and try again"
	}
	return told
}

// asFailure is how a failed renewal is told to other processes.
func (s *Session) asFailure(err error) store.Failure {
	f := store.Failure{At: s.Now(), Kind: string(Unreachable), Why: err.Error()}
	var e *Error
	var u *unsavedError
	switch {
	case errors.As(err, &e):
		f.Kind, f.Why = string(e.Outcome), e.What
	case errors.As(err, &u):
		f.Kind = string(unsaved)
	}
	return f
}

// fromFailure is the other direction. The kind comes from a file, so it is
// checked.
func fromFailure(f store.Failure) error {
	e := &Error{Outcome: Unreachable, What: oauth.Clean(f.Why), Remedy: Run("docker-credential-dtz doctor")}
	known := []Outcome{NotLoggedIn, Expired, Refused, StoreAway, Misconfigured, unconnected}
	if slices.Contains(known, Outcome(f.Kind)) {
		e.Outcome = Outcome(f.Kind)
	}
	if e.Outcome != Unreachable && e.Outcome != unconnected {
		e.Remedy = ""
	}
	return e
}
