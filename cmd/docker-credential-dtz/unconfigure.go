package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/spf13/cobra"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/dockerconfig"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
)

type unconfigureOptions struct {
	registries []string
	podman     bool
	dryRun     bool
}

func (sys system) newUnconfigure() *cobra.Command {
	var o unconfigureOptions
	cmd := &cobra.Command{
		Use:   "unconfigure",
		Short: "Take back what configure did",
		Long: `Remove this helper from credHelpers of Docker's config.json, for the registries
named or, without --registry, wherever it stands, and take back what configure
recorded for them: the path of an API key, an address that it added. A file that
configure made goes again if nothing else is in it. What a registry had named is
taken out with it. What another file still asks for stays served. Logins stay;
logout ends them.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return sys.unconfigure(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.registries, "registry", nil, "registry to take out, `host[:port]`; repeatable")
	f.BoolVar(&o.podman, "podman", false, "take it out of containers' auth.json instead of Docker's file")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "print what would change, and change nothing")
	completeNothing(cmd, "registry")
	return cmd
}

func (sys system) unconfigure(ctx context.Context, o unconfigureOptions) error {
	addresses, err := parseRegistries(o.registries)
	if err != nil {
		return err
	}
	t, err := sys.target(o.podman)
	if err != nil {
		return fmt.Errorf("unconfiguring %w", err)
	}
	s := sys.session(patienceForPeople)
	conf, err := config.Load(s.ConfigPath)
	if err != nil {
		return fmt.Errorf("unconfiguring %s: %w", t.who, err)
	}
	for _, address := range slices.Sorted(maps.Keys(conf.Bindings)) {
		if by := conf.Bindings[address].NamedBy; slices.Contains(addresses, by) && !slices.Contains(addresses, address) {
			addresses = append(addresses, address)
		}
	}
	origin, _ := originOf(conf, t.Path)
	var were map[config.Address]config.Binding
	var stay []string
	var unread error
	done, err := sys.carryOut(ctx, s, change{
		target: t,
		edit:   dockerconfig.Remove(texts(addresses), origin, dockerconfig.Helper, dockerconfig.HelperInWindows),
		bind: func(c *config.Config, done dockerconfig.Change) bool {
			were, stay, unread = sys.unbind(c, t, addresses, done)
			return len(stay) == 0 // else what is known of the file is wanted again
		},
		removes: true,
		byHand:  "take this helper's entries out of " + t.Path,
		dryRun:  o.dryRun,
	})
	if err != nil {
		return fmt.Errorf("unconfiguring %s: %w", t.who, err)
	}
	if len(stay) > 0 {
		sys.warn(fmt.Sprintf("warning: still served: %s, because a file that may ask for it cannot be read: %v; run this again when it can", join(stay), unread))
	}
	if o.dryRun {
		return nil
	}
	if len(done.Entries) == 0 {
		also := ""
		if !slices.ContainsFunc(slices.Collect(maps.Values(were)), madeByConfigure) {
			also = "; nothing was changed"
		}
		sys.say("%s has no entry of this helper%s.", t.Path, also)
	} else {
		var removed []string
		for _, entry := range done.Entries {
			removed = append(removed, entry.Address)
		}
		sys.say("%s no longer asks this helper for %s.", t.who, join(removed))
	}
	if done.After == nil && done.Before != nil {
		sys.say("%s held nothing else and is gone.", t.Path)
	}
	for _, address := range slices.Sorted(maps.Keys(were)) {
		switch b := were[address]; {
		case b.ByConfigure && b.APIKeyFile != "":
			sys.say("%s is not served any more; the API key in %s stays where it is.", address, b.APIKeyFile)
		case b.ByConfigure:
			sys.say("%s is not served any more.", address)
		case b.APIKeyFile != "":
			sys.say("%s is not served with the API key in %s any more.", address, b.APIKeyFile)
		}
	}
	return nil
}

func madeByConfigure(b config.Binding) bool { return b.ByConfigure || b.APIKeyFile != "" }

// unbind takes back what configure made of the bindings of addresses, of all if
// there are none in the list: of those that went out of the file of t, or that
// have not been in it since configure put entries there. What anybody still asks
// us for stays bound; so do all, if unread is why a file that may ask is not known.
func (sys system) unbind(c *config.Config, t target, addresses []config.Address, done dockerconfig.Change) (were map[config.Address]config.Binding, stay []string, unread error) {
	_, configured := originOf(c, t.Path)
	went := func(address config.Address) bool {
		return configured || slices.ContainsFunc(done.Entries, func(e dockerconfig.Entry) bool { return e.Address == string(address) })
	}
	were = map[config.Address]config.Binding{}
	asked, unread := sys.askedFor(c, t, done.Helpers)
	for _, address := range slices.Sorted(maps.Keys(c.Bindings)) {
		switch {
		case len(addresses) > 0 && !slices.Contains(addresses, address), !went(address), asked[address]:
		case unread == nil:
			were[address] = c.Unbind(address)
		case madeByConfigure(c.Bindings[address]):
			stay = append(stay, string(address))
		}
	}
	return were, stay, unread
}

// askedFor are the bindings for which somebody asks us, once the file of t has
// helpers: it, what Docker and podman read here and without their variables, or
// any other in which configure has put entries. The error is of one of those that
// cannot be read.
func (sys system) askedFor(c *config.Config, t target, helpers map[string]string) (asked map[config.Address]bool, unread error) {
	asked = map[config.Address]bool{}
	note := func(helpers map[string]string) {
		for name, helper := range helpers {
			address, err := config.ParseAddress(name)
			if err != nil || helper != dockerconfig.Helper {
				continue
			}
			if _, own := c.Bindings[address]; !own && address.IsPlatform() {
				address = platform.RegistryHost // whose binding serves it
			}
			asked[address] = true
		}
	}
	note(helpers)
	paths := slices.Sorted(maps.Keys(c.Origins))
	for _, getenv := range []func(string) string{sys.getenv, func(string) string { return "" }} {
		home := sys.getenv(homeVariable())
		podmans, _ := dockerconfig.ContainersPath(getenv, home, runtime.GOOS, os.Getuid())
		paths = append(paths, dockerconfig.Path(getenv, home), podmans)
	}
	here, _ := filepath.Abs(t.Path)
	for _, path := range paths {
		if abs, _ := filepath.Abs(path); path == "" || abs == here {
			continue
		}
		helpers, err := dockerconfig.File{Path: path}.Helpers()
		if err != nil {
			unread = err
		}
		note(helpers)
	}
	return asked, unread
}
