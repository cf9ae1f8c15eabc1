package main

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"text/template"
	"time"

	"github.com/spf13/cobra"

	"github.com/DownToZero-Cloud/docker-credential-dtz/server/internal/dev"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/tenant"
)

func newDev() *cobra.Command {
	options := dev.Options{
		Addr:          "127.0.0.1:5000",
		IdentityAddr:  "127.0.0.1:5001",
		TokenLifetime: 24 * time.Hour,
		UserAgent:     "dtz-registry/" + version(),
	}
	output := outputFormat("text")
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run an identity service and a registry on this machine, to try and to test",
		Long: `Run an identity service and a registry on this machine, to try and to test.

Both listen on loopback only. A user that may use two contexts and an API key
are made and printed. SIGINT or SIGTERM ends both services.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			tenant.LogTo(log)
			options.Log = log
			instance, err := dev.Start(cmd.Context(), options)
			if err != nil {
				return err
			}
			if err := output.print(cmd.OutOrStdout(), instance.Info); err != nil {
				return err
			}
			return instance.Wait()
		},
	}
	flags := cmd.Flags()
	flags.Var((*address)(&options.Addr), "addr", "loopback `address` of the registry; port 0 means a free one")
	flags.Var((*address)(&options.IdentityAddr), "identity-addr", "loopback `address` of the identity service")
	flags.Var((*lifetime)(&options.TokenLifetime), "token-lifetime", "how long a token is valid, in whole seconds")
	flags.StringVar(&options.Data, "data", "", "`folder` that keeps images and logins across restarts (default in memory)")
	flags.Var(&output, "output", "how to print what is needed for a login: text or json")
	return cmd
}

// address is the value of --addr and --identity-addr.
type address string

func (a *address) String() string { return string(*a) }

func (a *address) Type() string { return "address" }

func (a *address) Set(s string) error {
	if _, err := dev.LoopbackAddr(s); err != nil {
		return err
	}
	*a = address(s)
	return nil
}

// lifetime is the value of --token-lifetime.
type lifetime time.Duration

func (l *lifetime) String() string { return time.Duration(*l).String() }

func (l *lifetime) Type() string { return "duration" }

func (l *lifetime) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Second || d%time.Second != 0 {
		return errors.New("want whole seconds, at least one, like 90s or 24h")
	}
	*l = lifetime(d)
	return nil
}

// outputFormat is the value of --output.
type outputFormat string

func (f *outputFormat) String() string { return string(*f) }

func (f *outputFormat) Type() string { return "format" }

func (f *outputFormat) Set(s string) error {
	if s != "text" && s != "json" {
		return errors.New("want text or json")
	}
	*f = outputFormat(s)
	return nil
}

func (f outputFormat) print(w io.Writer, info dev.Info) error {
	if f == "json" {
		return json.NewEncoder(w).Encode(info)
	}
	return welcome.Execute(w, info)
}

// printf is built into shells, so that no other process sees its arguments.
var welcome = template.Must(template.New("").Parse(`The registry and its identity service are ready. Ctrl-C ends them.

  registry   {{.Registry}}
  identity   {{.Identity}}
  user       {{.Username}}
  password   {{.Password}}
  API key    {{.APIKey}}
  contexts   {{range $i, $id := .Contexts}}{{if $i}}, {{end}}{{$id}}{{end}} (the first is the default)

In another terminal, these, and Docker always gets a fresh token. For an image to
push: docker tag hello-world {{.Registry}}/my-image

  export DTZ_IDENTITY_URL={{.Identity}}
  go install github.com/DownToZero-Cloud/docker-credential-dtz/cmd/docker-credential-dtz@latest
  docker-credential-dtz login --registry {{.Registry}}
  docker push {{.Registry}}/my-image

In a script:

  printf %s '{{.Password}}' | docker-credential-dtz login --registry {{.Registry}} --yes --username {{.Username}} --password-stdin

Or log in with the API key:

  printf %s '{{.APIKey}}' | docker login {{.Registry}} --username apikey --password-stdin
`))
