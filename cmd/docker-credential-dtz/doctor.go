package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/dockerconfig"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/doctor"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
)

type doctorOptions struct {
	registry string
	profile  string
	output   string
}

func (sys system) newDoctor() *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find what keeps Docker from pulling and pushing, and say what mends it",
		Long: `Look at everything that a pull or push needs, from the ground up, and say of
each thing what was seen and, where it is wrong, what mends it. Nothing is
changed: a throw-away item is written to the keychain and deleted again, and a
token is renewed if Docker's next question would renew it.

On this machine: user (sudo), path, duplicates (of this program), desktop (the
PATH of programs started without a shell), settings (our config.json),
environment, docker (its config.json), docker-auth (DOCKER_AUTH_CONFIG),
keychain. Of each identity service: identity, clock. Of each registry: login,
role, wiring (whom Docker asks), plaintext (secrets in config.json), podman,
helm, registry, service (enabled for the context).

Exit code: 1 if something that failed keeps Docker from pulling and pushing,
else 0. A warning is something that does not, and leaves it at 0. With --output
json, an array of {"check", "state", "saw", "remedy"?, "address"?}, where state
is ok, warning, failed or skipped.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return sys.doctor(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.registry, "registry", "", "the one registry to look at, `host[:port]`")
	f.StringVar(&o.profile, "profile", "", "`name` of the one login to look at, whatever the environment says")
	f.StringVarP(&o.output, "output", "o", "text", "`format`: text or json")
	exclusive(cmd, "registry", "profile")
	completeNothing(cmd, "registry", "profile")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]cobra.Completion{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (sys system) doctor(ctx context.Context, o doctorOptions) error {
	if o.output != "text" && o.output != "json" {
		return usagef("--output is text or json, not %q", o.output)
	}
	narrow := doctor.Options{Profile: o.profile}
	if o.registry != "" {
		addresses, err := parseRegistries([]string{o.registry})
		if err != nil {
			return err
		}
		narrow.Registry = addresses[0]
	}
	done := sys.waitBriefly(ctx, "Looking")
	findings := doctor.Examine(ctx, sys.doctorsWorld(), narrow)
	done()
	if err := ctx.Err(); err != nil {
		return err
	}
	var err error
	if o.output == "json" {
		err = sys.printJSON(findings)
	} else {
		err = sys.printFindings(findings)
	}
	if err == nil && count(findings)[doctor.Failed] > 0 {
		return exitError(exitFailure)
	}
	return err
}

func (sys system) doctorsWorld() doctor.World {
	self, err := os.Executable()
	if resolved, linkErr := filepath.EvalSymlinks(self); err == nil && linkErr == nil {
		self = resolved
	}
	docker, podman := sys.files()
	sys.traceFolders(sys.newSession(patienceForDocker)) // once, however many doctor makes
	return doctor.World{
		Lookup:   sys.lookup,
		GOOS:     runtime.GOOS,
		Now:      sys.now,
		Self:     self,
		Version:  buildVersion(),
		Docker:   docker,
		Podman:   podman,
		Session:  func() *session.Session { return sys.newSession(patienceForDocker) },
		Registry: sys.remote,
	}
}

// files are Docker's config.json and those that podman looks into before it,
// none without a home folder.
func (sys system) files() (docker dockerconfig.File, podman []string) {
	d, _ := sys.target(false)
	p, _ := sys.target(true)
	return d.File, slices.DeleteFunc([]string{p.first, p.Path}, func(path string) bool { return path == "" })
}

// podmanOnly are the addresses for which podman asks us, with the file that says
// so, where there is no Docker.
func (sys system) podmanOnly() map[string]string { return doctor.PodmanOnly(sys.files()) }

func count(findings []doctor.Finding) map[doctor.State]int {
	n := map[doctor.State]int{}
	for _, f := range findings {
		n[f.State]++
	}
	return n
}

// printFindings writes a line for each check, with what mends it below those
// that need it, those of each registry under its name, and at the end how many
// problems there are.
func (sys system) printFindings(findings []doctor.Finding) error {
	var out strings.Builder
	s := sys.styleFor(sys.stdout)
	names := 0 // the longest name's width
	for _, f := range findings {
		names = max(names, len(f.Check))
	}
	address := findings[0].Address
	for _, f := range findings {
		if f.Address != address {
			address = f.Address
			fmt.Fprintf(&out, "\n%s\n", s.bold(address.String()))
		}
		mark, width := s.markOf(f.State)
		saw := oneLine(f.Saw)
		if f.State == doctor.Skipped {
			saw = s.dim(saw)
		}
		fmt.Fprintf(&out, "%s  %-*s  %s\n", mark, names, f.Check, saw)
		if f.Remedy != "" {
			fmt.Fprintf(&out, "%*s%s\n", width+2+names+2, "", "hint: "+oneLine(f.Remedy))
		}
	}
	fmt.Fprintf(&out, "\n%s\n", summary(findings))
	_, err := io.WriteString(sys.stdout, out.String())
	return err
}

// markOf is a state's mark and the width that it takes, which is the same for
// all.
func (s style) markOf(is doctor.State) (mark string, width int) {
	switch is {
	case doctor.OK:
		mark = s.mark(stateGood)
	case doctor.Warning:
		mark = s.mark(stateWarn)
	case doctor.Failed:
		mark = s.mark(stateBad)
	case doctor.Skipped:
		if mark = "skipped"; s.color && s.unicode {
			mark = s.dim("-")
		}
	}
	if s.color && s.unicode {
		return mark, 1
	}
	width = len(stateWarn)
	return fmt.Sprintf("%-*s", width, mark), width
}

// summary counts what is wrong.
func summary(findings []doctor.Finding) string {
	n := count(findings)
	of := func(n int, what string) string {
		if n != 1 {
			what += "s"
		}
		return fmt.Sprintf("%d %s", n, what)
	}
	var parts []string
	if n[doctor.Failed] > 0 {
		parts = append(parts, of(n[doctor.Failed], "problem"))
	}
	if n[doctor.Warning] > 0 {
		parts = append(parts, of(n[doctor.Warning], "warning"))
	}
	switch {
	case len(parts) == 0:
		parts = []string{of(len(findings)-n[doctor.Skipped], "check") + ", all good"}
	case n[doctor.Failed] == 0:
		parts = append([]string{"no problem"}, parts...)
	}
	if n[doctor.Skipped] > 0 {
		parts = append(parts, fmt.Sprintf("%d not looked at", n[doctor.Skipped]))
	}
	return strings.Join(parts, ", ")
}
