package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/spf13/cobra"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/dockerconfig"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
)

// helperName is what Docker calls us: the program's name behind
// docker-credential-.
const helperName = "dtz"

type configureOptions struct {
	registries []string
	profile    string
	apiKeyFile string
	yes        bool
}

func (sys system) newConfigure() *cobra.Command {
	var o configureOptions
	cmd := &cobra.Command{
		Use:   "configure",
		Short: "Set Docker up to ask this helper",
		Long: `Write this helper into credHelpers of Docker's config.json, for the registries
named or, without --registry, for all that are served. The rest of the file
stays as it is. DOCKER_CONFIG names the file's folder, as for Docker.

--api-key-file records the path of an API key for a server's cron and systemd,
whose environment is not yours: the registries are then served with that key.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return sys.configure(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.registries, "registry", nil, "registry to set up, `host[:port]`; repeatable")
	f.StringVar(&o.profile, "profile", config.DefaultProfile, "`name` of the login that serves registries which none serves yet")
	f.StringVar(&o.apiKeyFile, "api-key-file", "", "`path` of a file with an API key that serves the registries")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask: serve other registries than "+platform.RegistryHost+", replace other helpers' entries")
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
	if len(addresses) == 0 {
		if addresses, err = s.Bound(); err != nil {
			return fmt.Errorf("configuring Docker: %w", err)
		}
	}
	unserved := slices.DeleteFunc(slices.Clone(addresses), s.IsBound)
	place, err := s.Pick(o.profile)
	var none *session.Error
	if errors.As(err, &none) && none.Outcome == session.NotLoggedIn {
		place, err = s.NewPlace(o.profile, "", unserved)
	}
	if err != nil {
		return fmt.Errorf("configuring Docker: %w", err)
	}
	if err := sys.agree(ctx, s, place, unserved, o.yes); err != nil {
		return err
	}
	if err := s.Bind(ctx, place, addresses, o.apiKeyFile); err != nil {
		return fmt.Errorf("configuring Docker: %w", err)
	}
	if err := sys.configureDocker(addresses, o.yes); err != nil {
		return err
	}
	sys.say("Docker asks this helper for %s.", join(addresses))
	return nil
}

// configureDocker makes Docker ask us for the addresses.
func (sys system) configureDocker(addresses []config.Address, replace bool) error {
	file, err := sys.dockerConfig()
	if err != nil {
		return fmt.Errorf("configuring Docker: %w", err)
	}
	_, err = file.Add(texts(addresses), helperName, replace)
	var conflict *dockerconfig.ConflictError
	if errors.As(err, &conflict) {
		return withHint(fmt.Errorf("configuring Docker: %w", err), "to replace that entry, run %q",
			fmt.Sprintf("%s configure --registry %s --yes", program, conflict.Address))
	}
	if err != nil {
		return fmt.Errorf("configuring Docker: %w", err)
	}
	sys.warnUnlessOnPath()
	return nil
}

// warnUnlessOnPath says when Docker would not find us: it looks on PATH only.
func (sys system) warnUnlessOnPath() {
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	where := "its folder"
	if self, err := os.Executable(); err == nil {
		where = filepath.Dir(self)
	}
	sys.warn(fmt.Sprintf("warning: Docker finds %s on PATH only, and it is not there; add %s to PATH", program, where))
}

// dockerConfig is Docker's config.json.
func (sys system) dockerConfig() (dockerconfig.File, error) {
	homeVariable := "HOME"
	if runtime.GOOS == "windows" {
		homeVariable = "USERPROFILE"
	}
	home := sys.getenv(homeVariable)
	if home == "" && sys.getenv("DOCKER_CONFIG") == "" {
		return dockerconfig.File{}, errors.New("neither " + homeVariable + " nor DOCKER_CONFIG is set")
	}
	path := dockerconfig.Path(sys.getenv, home)
	sys.trace("Docker's configuration is %s", path)
	return dockerconfig.File{Path: path}, nil
}

func (sys system) newUnconfigure() *cobra.Command {
	var registries []string
	cmd := &cobra.Command{
		Use:   "unconfigure",
		Short: "Take this helper out of Docker's config.json",
		Long: `Remove this helper from credHelpers of Docker's config.json, for the registries
named or, without --registry, wherever it stands. Logins stay; logout ends them.`,
		Args: cobra.NoArgs,
		RunE: func(_ *cobra.Command, _ []string) error { return sys.unconfigure(registries) },
	}
	cmd.Flags().StringArrayVar(&registries, "registry", nil, "registry to take out, `host[:port]`; repeatable")
	completeNothing(cmd, "registry")
	return cmd
}

func (sys system) unconfigure(registries []string) error {
	parsed, err := parseRegistries(registries)
	if err != nil {
		return err
	}
	addresses := texts(parsed)
	file, err := sys.dockerConfig()
	if err != nil {
		return fmt.Errorf("configuring Docker: %w", err)
	}
	if len(addresses) == 0 {
		helpers, err := file.Helpers()
		if err != nil {
			return fmt.Errorf("configuring Docker: %w", err)
		}
		addresses = slices.Sorted(maps.Keys(helpers)) // Remove takes out our own only
	}
	removed, err := file.Remove(addresses, helperName)
	if err != nil {
		return fmt.Errorf("configuring Docker: %w", err)
	}
	if len(removed) == 0 {
		sys.say("%s has no entry of this helper; nothing was changed.", file.Path)
		return nil
	}
	sys.say("Docker no longer asks this helper for %s.", join(removed))
	return nil
}

func texts(addresses []config.Address) []string {
	out := make([]string, len(addresses))
	for i, address := range addresses {
		out[i] = string(address)
	}
	return out
}

// wired reports at which addresses Docker asks us.
func (sys system) wired() map[string]bool {
	wired := map[string]bool{}
	file, err := sys.dockerConfig()
	if err != nil {
		return wired
	}
	helpers, err := file.Helpers()
	if err != nil {
		return wired
	}
	for address, helper := range helpers {
		wired[address] = helper == helperName
	}
	return wired
}
