// Package session is the one policy of the helper: a token that is good for a
// registry address, from the environment or from a login, renewed in time by
// one process for all. It has no command line and no HTTP of its own.
package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// Session holds what the policy works with. Every field is needed.
type Session struct {
	Env Environment
	// ConfigPath is our config.json.
	ConfigPath string
	// StateDir is the folder of locks. Empty where there is no home: then
	// nothing but the environment can serve.
	StateDir string
	// CacheDir is the folder for tokens made from an API key of the environment;
	// "" where there is none: then each serves once.
	CacheDir func() string
	// Identity is a client of the identity service at a base URL.
	Identity func(baseURL string) (*oauth.Client, error)
	// Store is the store of a name that config.json holds.
	Store func(name string) (store.Store, error)
	Now   func() time.Time
}

// Credential is what to present to a registry.
type Credential struct {
	Username string // bearer, or apikey when the key itself has to do
	Secret   secret.String
	Source   Source
	// Expires is when the token ends, by this machine's clock. It is zero where
	// the API key itself is handed out.
	Expires time.Time
	// Where are the places where its secrets lie, for people. A login's are in
	// its [Status].
	Where []string
	// Notes are what a person should know although it worked, one line each.
	Notes []string
}

// Source is where a credential came from.
type Source string

const (
	FromAPIKey      Source = "DTZ_API_KEY"
	FromAPIKeyFile  Source = "DTZ_API_KEY_FILE"
	FromBoundFile   Source = "configured API-key file"
	FromAccessToken Source = "DTZ_ACCESS_TOKEN"
	FromLogin       Source = "login"
)

// Describe names a source in a sentence, behind «the».
func (s Source) Describe() string {
	switch s {
	case FromBoundFile, FromLogin:
		return string(s)
	default:
		return "variable " + string(s)
	}
}

// User names of the registry's Basic authentication.
const (
	UserBearer = "bearer"
	UserAPIKey = "apikey"
)

// Request says what a credential is wanted for.
type Request struct {
	Address config.Address
	// Context overrides the context that the environment or the binding says.
	Context string
	// TokenOnly forbids the fall-back to the API key itself.
	TokenOnly bool
}

// Credential returns a credential for the registry at r.Address. The first
// source that has one decides: an API key of the environment, DTZ_ACCESS_TOKEN
// while it is valid, the login that the address is bound to. A failure is an
// *Error.
func (s *Session) Credential(ctx context.Context, r Request) (*Credential, error) {
	conf, err := config.Load(s.ConfigPath)
	if err != nil {
		return s.withoutBindings(ctx, r, err)
	}
	binding, bound := conf.Lookup(r.Address)
	ours := bound || r.Address.IsPlatform() || s.Env.lists(r.Address)
	if !ours {
		return nil, notOurs(r.Address)
	}
	cred, notes, err := s.fromEnvironment(ctx, r, binding, bound)
	if cred == nil && err == nil {
		cred, err = s.fromBinding(ctx, r, conf, binding, bound)
		if e := (*Error)(nil); errors.As(err, &e) && e.Outcome == NotLoggedIn {
			// It may have been on its way to another store or profile.
			if now, failed := config.Load(s.ConfigPath); failed == nil && !sameLogin(conf, now, r.Address) {
				binding, bound = now.Lookup(r.Address)
				cred, err = s.fromBinding(ctx, r, now, binding, bound)
			}
		}
	}
	if err != nil {
		return nil, s.explain(err, r.Address, notes)
	}
	cred.Notes = append(notes, cred.Notes...)
	return cred, nil
}

// withoutBindings is Credential where config.json cannot be used, and unusable
// says why. Whether the address is ours is not known then. Docker asks for those
// that it has been told to ask for, so silence would be the worse mistake.
// Only a credential of the environment needs no binding: its identity service is
// the environment's too.
func (s *Session) withoutBindings(ctx context.Context, r Request, unusable error) (*Credential, error) {
	var (
		cred  *Credential
		notes []string
		err   error
	)
	if r.Address.IsPlatform() || s.Env.lists(r.Address) {
		cred, notes, err = s.fromEnvironment(ctx, r, config.Binding{}, false)
	}
	remedy := config.Remedy(unusable)
	switch {
	case err != nil:
		return nil, s.explain(err, r.Address, append(notes, unusable.Error()))
	case cred == nil:
		err = &Error{Outcome: Misconfigured, What: unusable.Error(), Remedy: remedy, Err: unusable}
		return nil, s.explain(err, r.Address, notes)
	}
	note := fmt.Sprintf("%v: the %s serves without them; %s", unusable, cred.Source.Describe(), remedy)
	cred.Notes = slices.Concat(notes, []string{note}, cred.Notes)
	return cred, nil
}

// sameLogin reports whether the address is served from the same place by both.
func sameLogin(a, b *config.Config, address config.Address) bool {
	from := func(c *config.Config) config.Login {
		binding, _ := c.Lookup(address)
		place, _ := c.Place(binding.Identity, binding.Profile)
		return place
	}
	return from(a) == from(b)
}

func notOurs(address config.Address) *Error {
	return &Error{Outcome: NotOurs, Address: address, What: "no login serves it", Remedy: Run(loginCommand(address, ""))}
}

func (s *Session) fromBinding(ctx context.Context, r Request, conf *config.Config, b config.Binding, bound bool) (*Credential, error) {
	place, loggedIn := conf.Place(b.Identity, b.Profile)
	if !bound || !loggedIn {
		return nil, &Error{Outcome: NotLoggedIn, What: "not logged in" + s.Env.emptyNote(), Remedy: s.loginRemedy(r.Address, b.Profile)}
	}
	contextID := first(r.Context, b.Context)
	cred, err := s.login(ctx, place, contextID)
	var e *Error
	if errors.As(err, &e) {
		e.What += s.Env.emptyNote()
		if e.Remedy == "" {
			e.Remedy = s.remedy(ctx, e, place, r.Address, contextID)
		}
	}
	return cred, err
}

// Login returns a credential from the login at place, for contextID or, where
// that is empty, for the login's own context. A failure is an *Error without an
// address.
func (s *Session) Login(ctx context.Context, place config.Login, contextID string) (*Credential, error) {
	cred, err := s.login(ctx, place, contextID)
	if err != nil {
		return nil, s.withRemedy(ctx, err, place, contextID)
	}
	return cred, nil
}

// login is Login whose *Error may lack a remedy, which its caller knows better.
func (s *Session) login(ctx context.Context, place config.Login, contextID string) (*Credential, error) {
	l, err := s.open(place)
	if err != nil {
		return nil, err
	}
	token, note, err := s.token(ctx, l.renewable(contextID))
	if err != nil {
		return nil, s.explain(err, "", nil)
	}
	cred := &Credential{Username: UserBearer, Secret: token.Access, Source: FromLogin, Expires: ends(token, s.Now())}
	if note != "" {
		cred.Notes = []string{note}
	}
	return cred, nil
}

// loginAt is a login together with what reaches it.
type loginAt struct {
	s        *Session
	key      store.Key
	store    store.Store
	identity *oauth.Client
	slot     store.Slot
}

func (s *Session) open(place config.Login) (*loginAt, error) {
	if s.StateDir == "" {
		return nil, &Error{Outcome: Misconfigured, What: config.ErrNoHome.Error(), Remedy: remedyHome}
	}
	st, err := s.Store(place.Store)
	if err != nil {
		return nil, &Error{Outcome: Misconfigured, What: err.Error(), Remedy: "mend " + s.ConfigPath, Err: err}
	}
	client, err := s.Identity(place.Identity)
	if err != nil {
		return nil, &Error{Outcome: Misconfigured, What: err.Error(), Remedy: "mend " + s.ConfigPath, Err: err}
	}
	key := store.Key{Identity: place.Identity, Profile: place.Profile}
	return &loginAt{s, key, st, client, store.LoginSlot(s.StateDir, key)}, nil
}

// renewable is how this login's token for contextID is had and renewed.
func (l *loginAt) renewable(contextID string) renewable {
	var login *store.Login // as it was loaded last
	return renewable{
		slot:     l.slot,
		failures: l.failures(contextID),
		load: func(ctx context.Context) (store.Token, error) {
			var err error
			if login, err = l.store.Load(ctx, l.key); err != nil {
				return store.Token{}, fromStore(err)
			}
			return login.Token(first(contextID, login.Context)), nil
		},
		renew: func(ctx context.Context) (store.Token, error) { return l.renew(ctx, login, contextID) },
	}
}

// failures is where renewals for contextID note how they failed, for the
// login's own context where that is empty.
func (l *loginAt) failures(contextID string) store.Slot {
	if contextID == "" {
		return l.slot
	}
	if canonical, ok := platform.ContextID(contextID); ok {
		contextID = canonical // the other spelling is no other context
	}
	beside := l.key
	beside.Profile += " " + contextID // no profile has a space in its name
	return store.LoginSlot(l.s.StateDir, beside)
}

// renew makes one exchange and keeps its result. The caller holds the slot. An
// empty contextID means the login's own, as for exchange.
func (l *loginAt) renew(ctx context.Context, login *store.Login, contextID string) (store.Token, error) {
	token, err := l.exchange(ctx, login, contextID)
	if err != nil {
		return store.Token{}, err
	}
	login.SetToken(token)
	if err := l.store.Save(ctx, l.key, login); err != nil {
		return token, &unsavedError{err}
	}
	return token, nil
}

func (l *loginAt) exchange(ctx context.Context, login *store.Login, contextID string) (store.Token, error) {
	ctx, cancel := leaveTime(ctx)
	defer cancel()
	refused := "refused"
	if contextID != "" { // it may be the context alone
		refused += " in context " + oauth.Clean(contextID)
	}
	contextID = first(contextID, login.Context)
	if login.Key != "" {
		got, err := l.identity.APIKey(ctx, login.Key, contextID)
		return fromIdentity(got, err, "the API key of this login was "+refused)
	}
	now := l.s.Now()
	base, ok := exchangeable(login, contextID, now)
	if !ok {
		return store.Token{}, &Error{Outcome: Expired, What: "login expired " + ago(now.Sub(lastEnd(base)))}
	}
	got, err := l.identity.Refresh(ctx, base.Access, contextID)
	return fromIdentity(got, err, "login "+refused)
}

// LoginCommand is the command that makes a login, to be typed by a person. Two
// of the same fields make the same login.
type LoginCommand struct {
	Addresses []config.Address // that it serves; none: the platform's own
	Profile   string           // "": the default one
	Insecure  bool             // kept unencrypted in a file
	Keep      bool             // with an API key made for this machine
}

func (c LoginCommand) String() string {
	command := "docker-credential-dtz login"
	if c.Keep {
		command += " --keep"
	}
	if c.Insecure {
		command += " --insecure-storage"
	}
	command += RegistryFlags(c.Addresses)
	if c.Profile != "" && c.Profile != config.DefaultProfile && !slices.Equal(c.Addresses, []config.Address{config.Address(c.Profile)}) {
		command += " --profile " + c.Profile
	}
	return command
}

// RegistryFlags are the flags of a command for the addresses, with a space
// before each: none where it is the platform's own alone, which login means by
// itself.
func RegistryFlags(addresses []config.Address) string {
	if slices.Equal(addresses, []config.Address{platformRegistry}) {
		return ""
	}
	flags := ""
	for _, address := range addresses {
		flags += " --registry " + string(address)
	}
	return flags
}

// loginCommand is the command that mends a missing login for an address.
func loginCommand(address config.Address, profile string) string {
	c := LoginCommand{Profile: profile}
	if address != "" {
		c.Addresses = []config.Address{address}
	}
	return c.String()
}

// remedy is what mends a login at place that gave no token in contextID for the
// address: where only that context was refused, to look which there are; else to
// log in once more, in the same way.
func (s *Session) remedy(ctx context.Context, e *Error, place config.Login, address config.Address, contextID string) string {
	again := LoginCommand{
		Addresses: []config.Address{address}, Profile: place.Profile,
		Insecure: place.Store == store.FileName,
	}
	switch {
	case e.Outcome == StoreAway:
		return remedyStore(e, place.Store, again)
	case e.Outcome == Refused && contextID != "":
		return Run(contextsCommand(place.Profile))
	case e.Outcome == Refused:
		login := s.Peek(ctx, place)
		again.Keep = login != nil && login.Method == store.KeptKey
	}
	return Run(again.String())
}

// loginRemedy is what mends a missing login for an address: that command, unless
// there is no home for a login.
func (s *Session) loginRemedy(address config.Address, profile string) string {
	if s.StateDir == "" {
		return remedyHome
	}
	return Run(loginCommand(address, profile))
}

const remedyHome = "set HOME, or DTZ_API_KEY for a pipeline"

// Run is a remedy that is a command.
func Run(command string) string { return fmt.Sprintf("run %q", command) }

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
