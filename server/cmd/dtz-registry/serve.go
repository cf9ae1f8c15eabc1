package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/spf13/cobra"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/internal/observe"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/tenant"
)

func newServe() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Run a container registry in which each context sees its own images only",
		Long: `Run a container registry in which each context sees its own images only.

Clients log in with the platform's tokens and API keys. Any number of replicas
can run on one object store. SIGINT or SIGTERM ends it, when the uploads that
are under way have ended; a second one at once.`,
		Args: configRequired(&file),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := newService(cmd, file)
			if err != nil {
				return err
			}
			return s.serveImages(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration `file`")
	return cmd
}

func (s *service) serveImages(ctx context.Context) (err error) {
	tenant.LogTo(s.log)
	apps := tenant.New(s.config.Distribution)
	if err := apps.Check(); err != nil {
		return err
	}
	unlock, err := apps.Lock(false)
	if errors.Is(err, tenant.ErrInUse) {
		return fmt.Errorf("%w; wait for dtz-registry gc to end", err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	s.ready = apps.Ready
	s.background = append(s.background, apps.RunPurge)
	o := s.observer(apps.Stats)
	handler := &registry.Handler{
		Authenticator: s.gate.Authenticator,
		Policy:        s.gate.Policy,
		Next:          apps,
		Observe:       o.Decided,
	}
	return s.run(ctx, o, "/v2", handler, slog.String("storage", s.config.Storage))
}

func (s *service) observer(apps func() (live, evicted int)) *observe.Observer {
	return observe.New(observe.Options{
		Log:        s.log,
		ClientAddr: s.gate.ClientAddr,
		Stats:      s.gate.Authenticator.Stats,
		Apps:       apps,
		Version:    version(),
	})
}
