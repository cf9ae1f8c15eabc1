package main

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/dockerconfig"
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
configure made goes again if nothing else is in it. Logins stay; logout ends
them.`,
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
		return err
	}
	s := sys.session(patienceForPeople)
	conf, err := config.Load(s.ConfigPath)
	if err != nil {
		return fmt.Errorf("configuring %s: %w", t.who, err)
	}
	needed := sys.neededElsewhere(!o.podman)
	unbind := func(c *config.Config) (were map[config.Address]config.Binding) {
		were = map[config.Address]config.Binding{}
		for address := range c.Bindings {
			if (len(addresses) == 0 || slices.Contains(addresses, address)) && !needed(address) {
				were[address] = c.Unbind(address)
			}
		}
		return were
	}
	done, err := sys.carryOut(ctx, s, change{
		target: t,
		edit:   dockerconfig.Remove(texts(addresses), originOf(conf, t.Path), ourHelpers...),
		bind:   func(c *config.Config) { unbind(c) },
		dryRun: o.dryRun,
	})
	if err != nil {
		return explainFile(fmt.Errorf("configuring %s: %w", t.who, err), t, "nothing of this helper's")
	}
	if o.dryRun {
		return nil
	}
	were := unbind(conf)
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

// neededElsewhere reports for which addresses the other one of Docker and podman
// asks us, so that their bindings have to stay: all, where that cannot be read.
func (sys system) neededElsewhere(podman bool) func(config.Address) bool {
	t, err := sys.target(podman)
	if err != nil {
		return func(config.Address) bool { return false } // it has no file
	}
	helpers, err := t.Helpers()
	return func(address config.Address) bool { return err != nil || helpers[string(address)] == helperName }
}
