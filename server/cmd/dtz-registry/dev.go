package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"text/template"
	"time"

	"github.com/spf13/cobra"

	"github.com/DownToZero-Cloud/docker-credential-dtz/server/internal/dev"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/tenant"
)

func newDev() *cobra.Command {
	options := dev.Options{UserAgent: "dtz-registry/" + version()}
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
	flags.StringVar(&options.Addr, "addr", "127.0.0.1:5000", "loopback `address` of the registry; port 0 means a free one")
	flags.StringVar(&options.IdentityAddr, "identity-addr", "127.0.0.1:5001", "loopback `address` of the identity service")
	flags.DurationVar(&options.TokenLifetime, "token-lifetime", 24*time.Hour, "how long a token is valid, in whole seconds")
	flags.StringVar(&options.Data, "data", "", "`folder` that keeps images and logins across restarts (default in memory)")
	flags.Var(&output, "output", "how to print what is needed for a login: text or json")
	return cmd
}

// outputFormat is the value of --output.
type outputFormat string

func (f *outputFormat) String() string { return string(*f) }

func (f *outputFormat) Type() string { return "format" }

func (f *outputFormat) Set(s string) error {
	if s != "text" && s != "json" {
		return fmt.Errorf("want text or json")
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

In another terminal, log in with the helper, and Docker always gets a fresh token:

  export DTZ_IDENTITY_URL={{.Identity}}
  printf %s '{{.Password}}' | docker-credential-dtz login --registry {{.Registry}} --yes --username {{.Username}} --password-stdin
  docker pull hello-world
  docker tag hello-world {{.Registry}}/hello
  docker push {{.Registry}}/hello

Or log in with the API key:

  printf %s '{{.APIKey}}' | docker login {{.Registry}} --username apikey --password-stdin
`))
