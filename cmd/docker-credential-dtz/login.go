package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

type loginOptions struct {
	username      string
	passwordStdin bool
	apiKeyStdin   bool
	keep          bool
	profile       string
	registries    []string
	context       string
	yes           bool
	noConfigure   bool
	insecure      bool
	webOptions
}

func (sys system) newLogin() *cobra.Command {
	var o loginOptions
	cmd := &cobra.Command{
		Use:        "login",
		SuggestFor: []string{"signin", "auth"},
		Short:      "Log in, and set Docker up to use the login",
		Long: `Log in with user name and password, or with an API key on standard input, or,
as an experiment, in the browser (--web): the platform does not document that
programs on your own machine may.

The login goes to the system's keychain and is renewed whenever Docker uses it.
A login that nobody uses for a day ends; with --keep the identity service makes
an API key for this machine, and the login lasts until you log out or that key is
deleted.

DTZ_IDENTITY_URL chooses another identity service, DTZ_STORE the store.`,
		Example: `  docker-credential-dtz login
  docker-credential-dtz login --keep
  docker-credential-dtz login --username alice@example.com --password-stdin < password.txt
  docker-credential-dtz login --profile work --registry cr.dtz.rocks:3214`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return sys.login(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringVarP(&o.username, "username", "u", "", "user `name`")
	f.BoolVar(&o.passwordStdin, "password-stdin", false, "read the password from standard input")
	f.BoolVar(&o.apiKeyStdin, "api-key-stdin", false, "log in with an API key, read from standard input")
	f.BoolVar(&o.keep, "keep", false, "have an API key made for this machine, so that the login outlives pauses")
	f.StringVar(&o.profile, "profile", config.DefaultProfile, "`name` of the login, for several side by side")
	f.StringArrayVar(&o.registries, "registry", []string{platform.RegistryHost}, "registry that the login serves, `host[:port]`; repeatable")
	f.StringVar(&o.context, "context", "", "`id` of the context to work in (default: that of the login before, or the identity's own)")
	f.BoolVarP(&o.yes, "yes", "y", false, "serve registries other than "+platform.RegistryHost+" without asking")
	f.BoolVar(&o.noConfigure, "no-configure", false, "leave Docker's config.json alone")
	f.BoolVar(&o.insecure, "insecure-storage", false, "keep the login unencrypted in a file, where there is no keychain")
	o.addFlags(f)
	exclusive(cmd, "web", "username")
	exclusive(cmd, "web", "password-stdin")
	exclusive(cmd, "web", "api-key-stdin")
	exclusive(cmd, "api-key-stdin", "password-stdin")
	exclusive(cmd, "api-key-stdin", "username")
	exclusive(cmd, "api-key-stdin", "keep")
	completeNothing(cmd, "username", "profile", "registry", "context", "client-id", "redirect-port")
	return cmd
}

// completeNothing keeps shells from offering file names for flags that take
// none.
func completeNothing(cmd *cobra.Command, flags ...string) {
	for _, name := range flags {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
}

func (sys system) login(ctx context.Context, o loginOptions) error {
	if o.passwordStdin && o.username == "" {
		return withHint(usagef("--password-stdin needs --username"), "add --username NAME")
	}
	if err := o.webOptions.check(); err != nil {
		return err
	}
	if err := checkProfile(o.profile); err != nil {
		return err
	}
	addresses, err := parseRegistries(o.registries)
	if err != nil {
		return err
	}
	if !o.passwordStdin && !o.apiKeyStdin && !o.web && !sys.interactive() {
		return withHint(usagef("nobody can be asked for a password: standard input is no terminal"),
			"use --username NAME --password-stdin, or --api-key-stdin; a pipeline needs no login but DTZ_API_KEY")
	}
	if !o.noConfigure {
		if err := sys.checkHelperOf(addresses); err != nil {
			return err
		}
	}
	s := sys.session(patienceForPeople)
	storeName, err := sys.loginStore(o, addresses, s.HasStore(store.FileName))
	if err != nil {
		return err
	}
	place, err := s.NewPlace(o.profile, storeName, addresses)
	if err != nil {
		return fmt.Errorf("logging in: %w", err)
	}
	if err := sys.agree(ctx, s, place, addresses, o.yes); err != nil {
		return err
	}
	if err := sys.probe(ctx, s, place, addresses); err != nil {
		if sys.hasWindowsHelper() {
			return withHint(fmt.Errorf("logging in: %w", err), "to have the login in Windows' keychain, run %q and then %q",
				program+" configure --windows"+session.RegistryFlags(addresses),
				strings.Replace(session.LoginCommand{Addresses: addresses, Profile: o.profile, Keep: o.keep}.String(), program, windowsProgram, 1))
		}
		return fmt.Errorf("logging in: %w", err)
	}
	client, err := s.Client(place)
	if err != nil {
		return fmt.Errorf("logging in: %w", err)
	}
	before := s.Peek(ctx, place)
	var made made
	if o.web {
		made, err = sys.loginWeb(ctx, s, place, client, o)
	} else {
		made, err = sys.authenticate(ctx, client, o, before)
	}
	if err != nil {
		return err
	}
	done := sys.waitBriefly(ctx, "Saving the login")
	notes, err := s.SignIn(ctx, place, made.login, addresses)
	done()
	if err != nil {
		err = undone(fmt.Errorf("saving the login: %w", err), made.undo())
	}
	if made.tell != nil {
		made.tell(made.login, err)
	}
	if err != nil {
		return err
	}
	sys.trace("the login is kept in %s", strings.Join(s.Where(place), " and "))
	for _, note := range notes {
		sys.warn(note)
	}
	if o.context != "" { // what was just said goes before what the registries had of their own
		if err := s.UseDefault(ctx, addresses); err != nil {
			return fmt.Errorf("logged in, but %s may be in another context: %w", join(addresses), err)
		}
	}
	if err := sys.afterLogin(ctx, s, place, made, addresses, o.noConfigure); err != nil {
		return err
	}
	if o.context == "" && (o.web || o.apiKeyStdin && !sameKey(before, made.login.Key)) { // the client or the key has chosen
		sys.noteDefault(before, made.login)
	}
	return nil
}

// probe tries the store before anything is asked in vain. A keychain that is
// locked asks for its password then.
func (sys system) probe(ctx context.Context, s *session.Session, place config.Login, addresses []config.Address) error {
	defer sys.waitBriefly(ctx, "Waiting for the keychain, which may be asking for its password")()
	return s.Probe(ctx, place, addresses)
}

// loginStore is the store of a new login: what DTZ_STORE and the flag say.
func (sys system) loginStore(o loginOptions, addresses []config.Address, before bool) (string, error) {
	name, err := sys.newStore(o.insecure || before)
	switch {
	case errors.Is(err, errNotOptedIn):
		return "", withHint(err, "if that is what you want, run %q",
			session.LoginCommand{Addresses: addresses, Profile: o.profile, Insecure: true, Keep: o.keep})
	case err != nil:
		return "", withHint(&usageError{err}, "set it to keychain or to file, or unset it")
	case o.insecure && sys.getenv("DTZ_STORE") == store.KeychainName:
		return "", withHint(usagef("DTZ_STORE=keychain and --insecure-storage contradict each other"), "leave one of them out")
	case o.insecure:
		name = store.FileName
	}
	if name == store.FileName {
		sys.warn(session.Unencrypted)
	}
	return name, nil
}

// agree asks before a login serves a registry that is not the platform's:
// whoever gets one of its tokens can act as its owner everywhere.
func (sys system) agree(ctx context.Context, s *session.Session, place config.Login, addresses []config.Address, yes bool) error {
	for _, note := range s.Taken(place, addresses) {
		sys.warn("note: " + note)
	}
	for _, address := range addresses {
		if yes || address.IsPlatform() || s.Serves(place, address) {
			continue
		}
		if !sys.interactive() {
			return withHint(
				usagef("%s is not the platform's registry, and whoever runs it can act as you with the tokens it is given", address),
				"if you trust it, add --yes")
		}
		yes, err := sys.confirm(ctx, fmt.Sprintf("Whoever runs %s can act as you with the tokens it is given. Do you trust it?", address), false)
		if err != nil {
			return err
		}
		if !yes {
			return withHint(fmt.Errorf("%s is not served; nothing was changed", address), "answer y, or add --yes")
		}
	}
	return nil
}

// made is a login that is not saved yet.
type made struct {
	login *store.Login
	// stayed says that it is in the context that the login before was in, which
	// is not the identity's own.
	stayed bool
	// ahead is how far this machine's clock is ahead of the identity service's.
	ahead time.Duration
	// undo takes back what making it left behind at the identity service.
	undo func() error
	// tell says in the browser how the login ended; nil where there is none.
	tell func(*store.Login, error)
}

func (sys system) authenticate(ctx context.Context, client *oauth.Client, o loginOptions, before *store.Login) (made, error) {
	nothing := func() error { return nil }
	if o.apiKeyStdin {
		key, err := sys.readSecret(ctx, "API key", at(client.BaseURL))
		if err != nil {
			return made{}, err
		}
		defer sys.waitBriefly(ctx, waitingForIdentity)()
		got, err := client.APIKey(ctx, key, o.context)
		if err != nil {
			return made{}, sys.explainIdentity(err, client.BaseURL)
		}
		if !sameKey(before, key) { // it was made for a context, and that one is meant
			before = nil
		}
		got, stayed, err := sys.stay(before, got, o, client.BaseURL, func(contextID string) (oauth.Token, error) {
			return client.APIKey(ctx, key, contextID)
		})
		if err != nil {
			return made{}, err
		}
		return made{login: session.FromKey(store.APIKey, "", key, "", got), stayed: stayed, ahead: got.ClockAhead(), undo: nothing}, nil
	}
	username, password, err := sys.askPassword(ctx, o, at(client.BaseURL))
	if err != nil {
		return made{}, err
	}
	defer sys.waitBriefly(ctx, waitingForIdentity)()
	got, err := client.Password(ctx, username, password)
	if err != nil {
		return made{}, sys.explainIdentity(err, client.BaseURL)
	}
	if o.context != "" && !platform.SameContext(o.context, got.Claims.Context) {
		own := got.Claims
		if got, err = client.Refresh(ctx, got.Access, o.context); err != nil {
			return made{}, refusedContext(err, o.context, own)
		}
	}
	got, stayed, err := sys.stay(before, got, o, client.BaseURL, func(contextID string) (oauth.Token, error) {
		return client.Refresh(ctx, got.Access, contextID)
	})
	if err != nil {
		return made{}, err
	}
	m := made{login: session.FromToken(store.Password, username, got), undo: nothing}
	if o.keep {
		m, err = sys.keepKey(ctx, client, username, got)
	}
	m.stayed, m.ahead = stayed, got.ClockAhead()
	return m, err
}

const waitingForIdentity = "Waiting for the identity service"

func (sys system) askPassword(ctx context.Context, o loginOptions, where string) (username string, password secret.String, err error) {
	if o.passwordStdin {
		password, err = sys.readSecret(ctx, "password", where)
		return o.username, password, err
	}
	username = o.username
	if username == "" {
		username, err = sys.askLine(ctx, "DTZ user name"+where+": ")
		if err == nil && username == "" {
			err = errNoAnswer
		}
		if err != nil {
			return "", "", fmt.Errorf("reading the user name: %w", err)
		}
	}
	password, err = sys.askSecret(ctx, "Password"+where+" (not shown): ")
	if err == nil && password == "" {
		err = errNoAnswer
	}
	if err != nil {
		return "", "", fmt.Errorf("reading the password: %w", err)
	}
	return username, password, nil
}

func join[T ~string](list []T) string {
	texts := make([]string, len(list))
	for i, item := range list {
		texts[i] = string(item)
	}
	return strings.Join(texts, ", ")
}

func parseRegistries(names []string) ([]config.Address, error) {
	addresses := make([]config.Address, len(names))
	for i, name := range names {
		var err error
		if addresses[i], err = config.ParseAddress(name); err != nil {
			return nil, usagef("--registry %q: %w", name, err)
		}
	}
	return addresses, nil
}

// checkProfile accepts what reads well in messages and keychain items. Profiles
// that docker login makes are named after addresses, so their characters count.
func checkProfile(name string) error {
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._-:[]@", c) {
			return usagef("--profile %q: only letters, digits and . _ - : @ may be in it", name)
		}
	}
	if name == "" || len(name) > 300 {
		return usagef("--profile must not be empty, nor over 300 characters")
	}
	return nil
}
