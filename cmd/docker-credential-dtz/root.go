package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/docker/docker-credential-helpers/credentials"
	"github.com/spf13/cobra"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
)

const (
	groupPeople     = "people"
	groupDocker     = "docker"
	groupKubernetes = "kubernetes"
)

// newRoot builds the command line.
func (sys system) newRoot() *cobra.Command {
	if sys.console == nil {
		sys.console = &console{}
	}
	root := &cobra.Command{
		Use:   program,
		Short: "Log in to DownToZero once, and Docker always gets a fresh token",
		Long: `A Docker credential helper for the container registry of DownToZero (DTZ).
Log in once; from then on Docker is handed a fresh token whenever it asks.`,
		Example: `  docker-credential-dtz login
  docker push cr.dtz.rocks/my-image`,
		Version:       buildVersion(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if sys.console.quiet && sys.console.verbose {
				return usagef("--quiet and --verbose cannot be used together")
			}
			return nil
		},
	}
	root.PersistentFlags().BoolVarP(&sys.console.quiet, "quiet", "q", false, "say nothing but results, warnings and errors")
	root.PersistentFlags().BoolVar(&sys.console.verbose, "verbose", false, "tell of each request, and of what is read and written")
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.SetIn(sys.stdin)
	root.SetOut(sys.stdout)
	root.SetErr(sys.stderr)
	root.AddGroup(&cobra.Group{ID: groupPeople, Title: "Commands:"}, &cobra.Group{ID: groupDocker, Title: "Called by Docker:"},
		&cobra.Group{ID: groupKubernetes, Title: "Called by Kubernetes:"})
	for _, cmd := range []*cobra.Command{
		sys.newLogin(), sys.newLogout(), sys.newStatus(), sys.newDoctor(), sys.newToken(),
		sys.newContext(), sys.newConfigure(), sys.newUnconfigure(),
	} {
		cmd.GroupID = groupPeople
		root.AddCommand(cmd)
	}
	for _, verb := range verbs {
		root.AddCommand(sys.newVerb(verb))
	}
	kubelet := sys.newKubelet()
	kubelet.GroupID = groupKubernetes
	root.AddCommand(kubelet)
	root.SetHelpCommandGroupID(groupPeople)
	root.SetCompletionCommandGroupID(groupPeople)
	root.InitDefaultHelpCmd()
	if help, _, err := root.Find([]string{"help"}); err == nil {
		help.Args = func(_ *cobra.Command, args []string) error {
			if topic, rest, err := root.Find(args); err != nil || len(rest) > 0 {
				return unknownCommand(topic, rest[0])
			}
			return nil
		}
	}
	return root
}

var verbHelp = map[string]string{
	"get":     "Answer a credential for the registry address on standard input",
	"store":   "Keep the credential on standard input, a JSON object (docker login)",
	"erase":   "Forget the registry address on standard input (docker logout)",
	"list":    "Print the addresses that are served",
	"version": "Print the version",
}

// newVerb makes a verb of Docker's protocol a command too, so that help and
// completion know it.
func (sys system) newVerb(verb string) *cobra.Command {
	return &cobra.Command{
		Use:     verb,
		Short:   verbHelp[verb],
		GroupID: groupDocker,
		Args: func(cmd *cobra.Command, args []string) error {
			if verb == credentials.ActionGet && len(args) > 0 {
				return withHint(usagef("get reads an address on standard input, and takes no argument"), "to see a token, run %q", program+" token")
			}
			return cobra.NoArgs(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if code := sys.serveDocker(cmd.Context(), verb); code != exitOK {
				return exitError(code)
			}
			return nil
		},
	}
}

// exitError ends with an exit code where all has been said already.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// serveTerminal runs the command line and returns the exit code. Errors are
// printed here and nowhere else.
func (sys system) serveTerminal(ctx context.Context, args []string) int {
	ctx, interrupt := context.WithCancel(ctx)
	defer interrupt()
	sys.console = &console{interrupt: interrupt}
	root := sys.newRoot()
	root.SetArgs(args)
	started := false
	explainUsage(root, &started)
	cmd, err := root.ExecuteContextC(ctx)
	var exit exitError
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &exit):
		return int(exit)
	case ctx.Err() != nil:
		if isTerminal(sys.stderr) {
			sys.writeLine("") // behind a prompt, and the ^C that terminals echo
		}
		if _, unrevoked := errors.AsType[*session.UnrevokedError](err); unrevoked {
			sys.complain(err) // else nobody knows that a key is still valid
		}
		return exitInterrupted
	case !started || errors.As(err, &usage):
		if hintOf(err) == "" {
			err = withHint(err, "run %q", cmd.CommandPath()+" --help")
		}
		sys.complain(err)
		return exitUsage
	}
	sys.complain(err)
	return exitFailure
}
