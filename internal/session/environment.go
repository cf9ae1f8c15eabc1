package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// Environment is what the variables of the process say. They are checked when
// an address of ours is asked for and not before: for any other address the
// helper stays silent.
type Environment struct {
	apiKey      secret.String
	apiKeyFile  string
	accessToken secret.String
	contextID   string
	identityURL string
	fallback    string
	registries  []config.Address
	empty       []string // credential variables that are set and empty
	notes       []string
}

// FromEnv reads the environment through lookup, e.g. [os.LookupEnv].
func FromEnv(lookup func(string) (string, bool)) Environment {
	var e Environment
	get := func(name string) string {
		value, _ := lookup(name)
		return strings.TrimSpace(value)
	}
	credential := func(name string) string {
		value, set := lookup(name)
		if value = strings.TrimSpace(value); set && value == "" {
			e.empty = append(e.empty, name)
		}
		return value
	}
	e.apiKey = secret.String(credential(string(FromAPIKey)))
	e.apiKeyFile = credential(string(FromAPIKeyFile))
	e.accessToken = secret.String(credential(string(FromAccessToken)))
	e.contextID = get("DTZ_CONTEXT_ID")
	e.identityURL = get("DTZ_IDENTITY_URL")
	e.fallback = get("DTZ_API_KEY_FALLBACK")
	for name := range strings.SplitSeq(get("DTZ_REGISTRIES"), ",") {
		if name = strings.TrimSpace(name); name == "" {
			continue
		}
		address, err := config.ParseAddress(name)
		if err != nil {
			e.notes = append(e.notes, fmt.Sprintf("DTZ_REGISTRIES holds %q: %v", name, err))
			continue
		}
		e.registries = append(e.registries, address)
	}
	return e
}

// ErrIdentityURL is what a DTZ_IDENTITY_URL that cannot be used ends in.
var ErrIdentityURL = errors.New("DTZ_IDENTITY_URL")

// IdentityURL is the identity service of the environment's credentials and of
// new logins: DTZ_IDENTITY_URL, else the platform's.
func (e Environment) IdentityURL() (string, error) {
	if e.identityURL == "" {
		return platform.IdentityURL, nil
	}
	url, err := oauth.CheckBaseURL(e.identityURL)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrIdentityURL, err)
	}
	return url, nil
}

// NamesIdentity reports whether DTZ_IDENTITY_URL is set.
func (e Environment) NamesIdentity() bool { return e.identityURL != "" }

// lists reports whether DTZ_REGISTRIES holds the address.
func (e Environment) lists(address config.Address) bool {
	return slices.Contains(e.registries, address)
}

// Precedence is the variable whose credential takes precedence over a login,
// or "".
func (e Environment) Precedence() Source {
	switch {
	case e.apiKey != "":
		return FromAPIKey
	case e.apiKeyFile != "":
		return FromAPIKeyFile
	case e.accessToken != "":
		return FromAccessToken
	}
	return ""
}

func (e Environment) emptyNote() string {
	if len(e.empty) == 0 {
		return ""
	}
	return " (" + strings.Join(e.empty, " and ") + " set but empty)"
}

// environmentOf is the environment as far as it concerns the address.
//
// A credential of the environment belongs to the environment's identity
// service. An address that is bound to another one gets it only if
// DTZ_REGISTRIES says so: else a token of the platform would go to a registry
// that somebody tries out on the side.
func (s *Session) environmentOf(address config.Address, b config.Binding, bound bool) Environment {
	identity, err := s.Env.IdentityURL()
	if bound && (err != nil || b.Identity != identity) && !address.IsPlatform() && !s.Env.lists(address) {
		return Environment{}
	}
	return s.Env
}

// Source is which source decides for the address, found out without asking
// anybody; "" if there is none.
func (s *Session) Source(address config.Address) Source {
	conf, err := config.Load(s.ConfigPath)
	if err != nil {
		return ""
	}
	b, bound := conf.Lookup(address)
	env := s.environmentOf(address, b, bound)
	_, loggedIn := conf.Place(b.Identity, b.Profile)
	switch source := env.Precedence(); {
	case source == FromAPIKey, source == FromAPIKeyFile:
		return source
	case b.APIKeyFile != "":
		return FromBoundFile
	case source == FromAccessToken && s.unusable(env.accessToken, first(env.contextID, b.Context)) == "":
		return source
	case bound && loggedIn:
		return FromLogin
	}
	return ""
}

// fromEnvironment returns the environment's credential for r, or nil if it has
// none, and what is to be said of what was passed over. A configured API-key
// file counts as the environment's.
func (s *Session) fromEnvironment(ctx context.Context, r Request, b config.Binding, bound bool) (*Credential, []string, error) {
	env := s.environmentOf(r.Address, b, bound)
	notes := slices.Clip(env.notes) // what is appended belongs to this answer
	fail := func(what string, err error) (*Credential, []string, error) {
		return nil, notes, &Error{Outcome: Misconfigured, What: what, Remedy: "unset or mend it", Err: err}
	}
	identity := b.Identity // for a configured file
	contextID := first(r.Context, first(env.contextID, b.Context))
	key, source, err := env.key(b)
	if err != nil {
		return fail(err.Error(), err)
	}
	where := env.where(source, b)
	if source != FromBoundFile {
		if identity, err = env.IdentityURL(); err != nil && env.Precedence() != "" {
			return fail(err.Error(), err)
		}
	}
	if key != "" {
		name := string(source)
		if source == FromBoundFile {
			name = b.APIKeyFile
			contextID = first(r.Context, first(b.Context, env.contextID)) // a binding holds whatever the environment
		}
		cred, err := s.fromKey(ctx, r, key, source, name, identity, contextID)
		if cred != nil {
			cred.Where = append([]string{where}, cred.Where...)
		}
		return cred, notes, err
	}
	if env.accessToken == "" {
		return nil, notes, nil
	}
	if why := s.unusable(env.accessToken, contextID); why != "" {
		return nil, append(notes, why), nil
	}
	claims, _ := oauth.ParseClaims(env.accessToken.Reveal()) // looked at by unusable
	expires := claims.Expires
	if early := claims.IssuedAt.Sub(s.Now()); early > clockStep {
		expires = expires.Add(-early)
		notes = append(notes, fmt.Sprintf("this machine's clock is behind by %s or more: DTZ_ACCESS_TOKEN is not issued yet; nobody here can tell whether it is still valid", InWords(early)))
	}
	return &Credential{
		Username: UserBearer, Secret: env.accessToken, Source: FromAccessToken,
		Expires: expires, Where: []string{env.where(FromAccessToken, b)},
	}, notes, nil
}

// unusable is why DTZ_ACCESS_TOKEN does not serve in a context, "" if it does.
func (s *Session) unusable(token secret.String, contextID string) string {
	claims, err := oauth.ParseClaims(token.Reveal())
	switch {
	case err != nil:
		return "DTZ_ACCESS_TOKEN cannot be used: " + err.Error()
	case claims.Expires.IsZero():
		return "DTZ_ACCESS_TOKEN does not say when it expires"
	case !s.Now().Before(claims.Expires):
		return "DTZ_ACCESS_TOKEN expired " + ago(s.Now().Sub(claims.Expires))
	case contextID != "" && !platform.SameContext(contextID, claims.Context):
		return fmt.Sprintf("DTZ_ACCESS_TOKEN is for %s and not for %s", oauth.Clean(claims.Context), contextID)
	}
	return ""
}

// key is the API key of the environment or of the binding, "" if there is none.
// Its errors do not quote it.
func (e Environment) key(b config.Binding) (secret.String, Source, error) {
	switch {
	case e.apiKey != "" && e.apiKeyFile != "":
		return "", "", errors.New("DTZ_API_KEY and DTZ_API_KEY_FILE are both set")
	case e.apiKey != "":
		return checkedKey(e.apiKey.Reveal(), FromAPIKey, "DTZ_API_KEY")
	case e.apiKeyFile != "":
		return readKey(e.apiKeyFile, FromAPIKeyFile)
	case b.APIKeyFile != "":
		return readKey(b.APIKeyFile, FromBoundFile)
	}
	return "", "", nil
}

// where says to people where the secret of a source lies.
func (e Environment) where(source Source, b config.Binding) string {
	switch source {
	case FromAPIKeyFile:
		return "the file " + e.apiKeyFile
	case FromBoundFile:
		return "the file " + b.APIKeyFile
	default:
		return "the variable " + string(source)
	}
}

const (
	// maxKeyFile is more than any API key has, in bytes.
	maxKeyFile = 4096
	// keyFileLimit is for a pipe whose writer takes its time.
	keyFileLimit = 2 * time.Second
)

// readKey reads the file of an API key. It may be a link, as Kubernetes mounts
// secrets, or a pipe.
func readKey(path string, source Source) (secret.String, Source, error) {
	if strings.HasPrefix(path, "apikey-") && filepath.Base(path) == path {
		if _, err := os.Lstat(path); err != nil { // the error would quote it
			return "", "", fmt.Errorf("%s holds an API key and not the name of a file", source)
		}
	}
	// Without O_NONBLOCK a named pipe that nobody writes to would wait for ever.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", source, err)
	}
	defer f.Close()
	if err := f.SetReadDeadline(time.Now().Add(keyFileLimit)); err != nil && !errors.Is(err, os.ErrNoDeadline) {
		return "", "", fmt.Errorf("%s: %w", source, err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return "", "", fmt.Errorf("%s: %w", source, err)
	}
	if len(data) > maxKeyFile {
		return "", "", fmt.Errorf("%s: %s is too large for an API key", source, path)
	}
	return checkedKey(string(data), source, path)
}

func checkedKey(text string, source Source, where string) (secret.String, Source, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return "", "", fmt.Errorf("%s is empty", where)
	}
	for _, c := range []byte(text) {
		if c <= ' ' || c > '~' {
			return "", "", fmt.Errorf("%s holds more than an API key", where)
		}
	}
	return secret.String(text), source, nil
}

// fromKey trades the API key for a token, once for many calls. Name is what
// people know the key by.
func (s *Session) fromKey(ctx context.Context, r Request, key secret.String, source Source, name, identity, contextID string) (*Credential, error) {
	client, err := s.Identity(identity)
	if err != nil {
		return nil, &Error{Outcome: Misconfigured, What: err.Error(), Remedy: "mend DTZ_IDENTITY_URL or " + s.ConfigPath, Err: err}
	}
	cache, err := store.NewKeyCache(s.CacheDir(), key, identity, contextID)
	if err != nil {
		return nil, err
	}
	token, note, err := s.token(ctx, renewable{
		slot:     cache.Slot(),
		failures: cache.Slot(),
		load:     func(context.Context) (store.Token, error) { return cache.Load(), nil },
		renew: func(ctx context.Context) (store.Token, error) {
			ctx, cancel := leaveTime(ctx)
			defer cancel()
			got, err := client.APIKey(ctx, key, contextID)
			token, err := fromIdentity(got, err, "the API key of "+name+" was refused")
			if err != nil {
				return token, err
			}
			if err := cache.Save(token); err != nil {
				return token, &unsavedError{err}
			}
			return token, nil
		},
	})
	cred := &Credential{Username: UserBearer, Secret: token.Access, Source: source, Expires: ends(token, s.Now()), Where: cache.Where()}
	switch {
	case err == nil && note == "":
		return cred, nil
	case err == nil:
		cred.Notes = []string{note}
		return cred, nil
	case s.mayFallBack(err, r, contextID):
		return &Credential{
			Username: UserAPIKey, Secret: key, Source: source,
			Notes: []string{fmt.Sprintf("the API key itself is handed out, not a token: %s", what(err))},
		}, nil
	}
	var e *Error
	if errors.As(err, &e) && e.Outcome == Refused {
		e.Remedy = "replace the key, or unset " + string(source)
		if source == FromBoundFile {
			e.Remedy = "replace the key in that file"
		}
	}
	return nil, err
}

// mayFallBack reports whether the key itself may go to the registry: only when
// no connection to the identity service could be made. Whoever answers in its
// place must not be able to get at keys by saying no. In a chosen context the
// key would act in the wrong one, its own.
func (s *Session) mayFallBack(err error, r Request, contextID string) bool {
	var e *Error
	if r.TokenOnly || contextID != "" || !errors.As(err, &e) || e.Outcome != unconnected {
		return false
	}
	switch s.Env.fallback {
	case "":
		return r.Address.IsPlatform()
	case "on":
		return true
	default: // off, and whatever was meant by anything else
		return false
	}
}

func what(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.What
	}
	return err.Error()
}
