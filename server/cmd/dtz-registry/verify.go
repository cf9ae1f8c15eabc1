package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
)

func newVerify() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "verify --config FILE",
		Short: "Answer a reverse proxy that asks whether a request may pass to its registry",
		Long: `Answer a reverse proxy that asks whether a request may pass to its registry.

It answers at /verify, to nginx (auth_request), Caddy and Traefik (forward-auth)
and Envoy (ext_authz). Configurations of these are in docs/forward-auth.md. Only
proxies in trusted_proxies may ask.`,
		Args: configRequired(&file),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := newService(cmd, file)
			if err != nil {
				return err
			}
			if len(s.config.TrustedProxies) == 0 {
				return fmt.Errorf("%s: trusted_proxies: is empty, and only trusted proxies may ask; set the addresses of yours, like [127.0.0.1]", file)
			}
			return s.answerProxies(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration `file`")
	return cmd
}

func (s *service) answerProxies(ctx context.Context) error {
	o := s.observer(nil)
	handler := &registry.ForwardAuth{
		Authenticator:  s.gate.Authenticator,
		Policy:         s.gate.Policy,
		TrustedProxies: s.config.TrustedProxies,
		Nginx:          s.config.Nginx,
		Observe:        o.Decided,
	}
	return s.run(ctx, o, "/verify", handler)
}
