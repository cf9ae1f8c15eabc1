package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/dockerconfig"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
)

type configureOptions struct {
	registries []string
	profile    string
	apiKeyFile string
	yes        bool
	podman     bool
	dryRun     bool
	windows    bool
	chosen     bool // --windows, or --windows=false, is given
}

func (sys system) newConfigure() *cobra.Command {
	var o configureOptions
	cmd := &cobra.Command{
		Use:   "configure",
		Short: "Set Docker, or podman, up to ask this helper",
		Long: `Write this helper into credHelpers of Docker's config.json, for the registries
named or, without --registry, for all that are served. The rest of the file
stays as it is. DOCKER_CONFIG names the file's folder, as for Docker.

With a login, each registry is asked where the images of your context lie. An
address on the registry's own host, such as cr.dtz.rocks:3214, is set up too.

--podman writes to containers' auth.json instead, which podman, buildah and
skopeo ask before Docker's file: that of REGISTRY_AUTH_FILE, or the one that
outlives a reboot.

--api-key-file records the path of an API key for a server's cron and systemd,
whose environment is not yours: the registries are then served with that key.`,
		Example: `  docker-credential-dtz configure --dry-run
  docker-credential-dtz configure --podman
  docker-credential-dtz configure --api-key-file /etc/dtz/apikey`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.chosen = cmd.Flags().Changed("windows")
			if cmd.Flags().Changed("api-key-file") && o.apiKeyFile == "" {
				return usagef("--api-key-file is empty")
			}
			return sys.configure(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.registries, "registry", nil, "registry to set up, `host[:port]`; repeatable")
	f.StringVar(&o.profile, "profile", config.DefaultProfile, "`name` of the login that serves registries which none serves yet")
	f.StringVar(&o.apiKeyFile, "api-key-file", "", "`path` of a file with an API key that serves the registries")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask: serve other registries than "+platform.RegistryHost+", replace other helpers' entries")
	f.BoolVar(&o.podman, "podman", false, "set up podman, buildah and skopeo instead of Docker")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "print what would change, and change nothing; asks the registries that are served, which may renew a token")
	f.BoolVar(&o.windows, "windows", false, "in WSL: use "+windowsProgram+", whose login lies in Windows' keychain")
	completeNothing(cmd, "registry", "profile")
	return cmd
}

func (sys system) configure(ctx context.Context, o configureOptions) error {
	if err := checkProfile(o.profile); err != nil {
		return err
	}
	addresses, err := parseRegistries(o.registries)
	if err != nil {
		return err
	}
	s := sys.session(patienceForPeople)
	t, err := sys.target(o.podman)
	if err != nil {
		return fmt.Errorf("configuring %w", err)
	}
	if len(addresses) == 0 {
		if addresses, err = toConfigure(s); err != nil {
			return fmt.Errorf("configuring %s: %w", t.who, err)
		}
	}
	helper, err := sys.chooseHelper(ctx, s, t, addresses, o)
	if err != nil {
		return err
	}
	w := wiring{target: t, helper: helper, addresses: addresses, replace: o.yes, dryRun: o.dryRun}
	if helper == dockerconfig.HelperInWindows { // it has bindings of its own, in Windows
		if o.apiKeyFile != "" {
			return usagef("--api-key-file is for this system, and %s looks into Windows'", windowsProgram)
		}
		wired, _, err := sys.wire(ctx, s, w)
		if err != nil || len(wired) == 0 {
			return err
		}
		sys.say("%s asks %s for %s. Log in there: %s login", t.who, windowsProgram, join(wired), windowsProgram)
		return nil
	}
	// The platform's registry has an identity service of its own.
	unserved := slices.DeleteFunc(slices.Clone(addresses), func(a config.Address) bool { return a.IsPlatform() || s.IsBound(a) })
	place := config.Login{Profile: o.profile}
	if len(unserved) > 0 {
		place, err = s.Pick(o.profile)
		if none, ok := errors.AsType[*session.Error](err); ok && none.Outcome == session.NotLoggedIn {
			place, err = s.NewPlace(o.profile, "", unserved)
		}
		if err != nil {
			return fmt.Errorf("configuring %s: %w", t.who, err)
		}
	}
	keyFile := ""
	if o.apiKeyFile != "" {
		var warning string
		if keyFile, warning, err = session.CheckKeyFile(o.apiKeyFile); err != nil {
			return withHint(fmt.Errorf("configuring %s: %w", t.who, err), "give a file with nothing but the key in it, that stays where it is")
		}
		if err := atOneService(s, addresses, place.Identity); err != nil {
			return fmt.Errorf("configuring %s: %w", t.who, err)
		}
		if warning != "" {
			sys.warn("warning: " + warning)
		}
	}
	if !o.dryRun {
		if err := sys.agree(ctx, s, place, unserved, o.yes); err != nil {
			return err
		}
	}
	w.bind = func(c *config.Config) {
		for _, address := range addresses {
			c.Bind(address, place.Identity, place.Profile, keyFile)
			if b, own := c.Bindings[address]; own && len(o.registries) > 0 {
				b.NamedBy = "" // now somebody has asked for it
				c.Bindings[address] = b
			}
		}
	}
	w.ask = slices.DeleteFunc(slices.Clone(addresses), func(address config.Address) bool {
		// A dry run sends a token to nobody who has had none.
		return o.dryRun && slices.Contains(unserved, address)
	})
	wired, _, err := sys.wire(ctx, s, w)
	if err != nil || len(wired) == 0 {
		return err
	}
	sys.say("%s asks this helper for %s.", t.who, join(wired))
	if keyFile != "" {
		sys.say("The API key in %s serves %s. It was read and not tried: %s status", keyFile, join(addresses), program)
	}
	return nil
}

// toConfigure are the registries that configure means without --registry: those
// that anything serves, else all that are bound.
func toConfigure(s *session.Session) ([]config.Address, error) {
	bound, err := s.Bound()
	if err != nil {
		return nil, err
	}
	served := slices.DeleteFunc(slices.Clone(bound), func(a config.Address) bool { return s.Source(a) == "" })
	if len(served) > 0 {
		return served, nil
	}
	return bound, nil
}

// atOneService refuses to let one API key serve the registries of several
// identity services: a key of one would be sent to the others. unbound is that
// of a registry without a binding.
func atOneService(s *session.Session, addresses []config.Address, unbound string) error {
	conf, err := config.Load(s.ConfigPath)
	if err != nil {
		return err
	}
	of := func(address config.Address) string { return cmp.Or(conf.IdentityOf(address), unbound) }
	for _, address := range addresses {
		if of(address) != of(addresses[0]) {
			return withHint(usagef("an API key is for one identity service, and %s is at %s, but %s at %s",
				addresses[0], of(addresses[0]), address, of(address)), "name the registries that it is for with --registry")
		}
	}
	return nil
}

// configureDocker makes Docker ask us for the addresses of a login, and for
// those that their registries name, which it returns.
func (sys system) configureDocker(ctx context.Context, s *session.Session, addresses []config.Address) (added []config.Address, err error) {
	t, err := sys.target(false)
	if err != nil {
		return nil, fmt.Errorf("configuring %w", err)
	}
	_, added, err = sys.wire(ctx, s, wiring{target: t, helper: dockerconfig.Helper, addresses: addresses, ask: addresses})
	return added, err
}

// wiring is which file is to name which helper for which addresses, and what
// has to be bound before.
type wiring struct {
	target    target
	helper    string
	addresses []config.Address
	bind      func(*config.Config) // nil: nothing
	ask       []config.Address     // registries that may name an address of their own
	replace   bool                 // another helper's entry
	dryRun    bool
}

// wire carries w out: the bindings first, so that Docker is never pointed at a
// helper that has never heard of the address. It returns those of w's addresses
// for which we are asked now, none in a dry run, and what registries have named
// and was added.
func (sys system) wire(ctx context.Context, s *session.Session, w wiring) (wired, added []config.Address, err error) {
	conf, err := config.Load(s.ConfigPath)
	if err != nil {
		return nil, nil, fmt.Errorf("configuring %s: %w", w.target.who, err)
	}
	if w.bind != nil {
		w.bind(conf)
	}
	taken := sys.taken(w.target)
	wired = slices.DeleteFunc(slices.Clone(w.addresses), func(address config.Address) bool {
		by := conf.Bindings[address].NamedBy
		return by != "" && sys.leave(w.target, taken, address, by)
	})
	found := slices.DeleteFunc(sys.discover(ctx, s, conf, w.ask), func(f found) bool {
		return !slices.Contains(w.addresses, f.address) && sys.leave(w.target, taken, f.address, f.binding.NamedBy)
	})
	addresses := slices.Clone(wired)
	for _, f := range found {
		if !slices.Contains(w.addresses, f.address) && !slices.Contains(addresses, f.address) {
			addresses = append(addresses, f.address)
		}
	}
	if len(addresses) == 0 {
		return nil, nil, nil
	}
	done, err := sys.carryOut(ctx, s, change{
		target: w.target,
		edit: dockerconfig.Add(texts(addresses), w.helper, func(helper string) bool {
			return w.replace || dockerconfig.IsOurs(helper)
		}),
		bind: func(c *config.Config, _ dockerconfig.Change) bool {
			if w.bind != nil {
				w.bind(c)
			}
			for _, f := range found {
				if _, own := c.Bindings[f.address]; !own {
					c.Bindings[f.address] = f.binding
				}
			}
			return true
		},
		byHand: fmt.Sprintf(`put "credHelpers": {%q: %q} into %s`, addresses[0], w.helper, w.target.Path),
		dryRun: w.dryRun,
	})
	if conflict, ok := errors.AsType[*dockerconfig.ConflictError](err); ok {
		return nil, nil, withHint(fmt.Errorf("configuring %s: %w", w.target.who, err), "to replace that entry, run %q",
			replaceCommand(w.target, conflict.Address))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("configuring %s: %w", w.target.who, err)
	}
	if w.dryRun {
		return nil, nil, nil
	}
	for _, entry := range done.Entries {
		if entry.Before != "" && !dockerconfig.IsOurs(entry.Before) {
			sys.say("The entry of %s named the helper %q before; nothing here remembers that.", entry.Address, entry.Before)
		}
	}
	for _, f := range found {
		if slices.ContainsFunc(done.Entries, func(e dockerconfig.Entry) bool { return e.Address == string(f.address) }) {
			sys.say("Images of %s lie at %s: that is set up too.", f.contextID, f.address)
			added = append(added, f.address)
		}
	}
	sys.warnIfShadowed(w.target, addresses)
	sys.warnUnlessOnPath(w.helper)
	return wired, added, nil
}

// taken are the entries of the file that name another helper than ours.
func (sys system) taken(t target) map[string]string {
	helpers, err := t.Helpers()
	if err != nil {
		return nil // who writes the file will say so
	}
	maps.DeleteFunc(helpers, func(_, helper string) bool { return dockerconfig.IsOurs(helper) })
	return helpers
}

// leave says, where an entry of another helper stands at an address that nobody
// but a registry has named, that it stays, and reports whether it does.
func (sys system) leave(t target, taken map[string]string, address, by config.Address) bool {
	helper, stays := taken[string(address)]
	if stays {
		sys.say("%s, which %s has named, uses the credential helper %q and is left alone. To replace that entry: %s",
			address, by, helper, replaceCommand(t, string(address)))
	}
	return stays
}

// replaceCommand is the command that takes an entry over from another helper.
func replaceCommand(t target, address string) string {
	podman := ""
	if t.who == podmanName {
		podman = " --podman"
	}
	return fmt.Sprintf("%s configure%s --registry %s --yes", program, podman, address)
}

func texts(addresses []config.Address) []string {
	out := make([]string, len(addresses))
	for i, address := range addresses {
		out[i] = string(address)
	}
	return out
}

// wired reports at which addresses Docker asks us, here or in Windows.
func (sys system) wired() map[string]bool {
	wired := map[string]bool{}
	t, err := sys.target(false)
	if err != nil {
		return wired
	}
	helpers, err := t.Helpers()
	if err != nil {
		return wired
	}
	for address, helper := range helpers {
		wired[address] = dockerconfig.IsOurs(helper)
	}
	return wired
}
