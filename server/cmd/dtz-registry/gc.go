package main

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/spf13/cobra"

	"github.com/DownToZero-Cloud/docker-credential-dtz/server/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/tenant"
)

func newGC() *cobra.Command {
	var file, contextID string
	var untagged, dryRun bool
	cmd := &cobra.Command{
		Use:   "gc --config FILE",
		Short: "Delete from the storage what no image refers to any more",
		Long: `Delete from the storage what no image refers to any more, in each context.

Nothing may be pushed meanwhile: a push that is under way would lose its layers.
On a file system gc does not begin while dtz-registry serves from it, nor the
other way round. With S3, GCS or Azure, end every replica first, or set
registry.storage.maintenance.readonly for them.

Uploads that were begun and never ended need no gc: serve purges them after
seven days.`,
		Args: configRequired(&file),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			c, warnings, err := config.Load(file)
			if err != nil {
				return err
			}
			for _, w := range warnings {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
			}
			if c.Storage == "inmemory" {
				return errors.New("images in memory are gone with the process that had them")
			}
			tenant.LogTo(slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
			apps := tenant.New(c.Distribution)
			unlock, err := apps.Lock(true)
			if errors.Is(err, tenant.ErrInUse) {
				return fmt.Errorf("%w; end dtz-registry serve first", err)
			}
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, unlock()) }()
			ids, err := apps.Contexts(cmd.Context())
			if err != nil {
				return err
			}
			if contextID != "" {
				id, err := tenant.CanonicalID(contextID)
				switch {
				case err != nil:
					return fmt.Errorf("--context: %w", err)
				case !slices.Contains(ids, id):
					return fmt.Errorf("--context: %s has no images here", id)
				}
				ids = []string{id}
			}
			if len(ids) == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "No context has images here.")
			}
			var errs []error
			for _, id := range ids {
				freed, err := apps.Collect(cmd.Context(), id, untagged, dryRun)
				if err != nil { // the other contexts have no part in it
					errs = append(errs, fmt.Errorf("%s: %w", id, err))
					continue
				}
				fmt.Fprintln(cmd.OutOrStdout(), report(id, freed, untagged, dryRun))
			}
			return errors.Join(errs...)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&file, "config", "", "configuration `file`")
	flags.StringVar(&contextID, "context", "", "only this context's `id` (default all)")
	flags.BoolVar(&untagged, "delete-untagged", false, "delete manifests, too, that no tag and no index refers to")
	flags.BoolVar(&dryRun, "dry-run", false, "only print what would be deleted")
	return cmd
}

// configRequired refuses, as wrong usage, a command line without --config.
// Cobra itself looks for required flags only after it has begun to run.
func configRequired(file *string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if *file == "" {
			return errors.New("--config is required")
		}
		return cobra.NoArgs(cmd, args)
	}
}

// report is one line about one context.
func report(id string, freed tenant.Collected, untagged, dryRun bool) string {
	what := fmt.Sprintf("%d blobs", freed.Blobs)
	if untagged {
		what = fmt.Sprintf("%d manifests and %s", freed.Manifests, what)
	}
	verb := "deleted"
	if dryRun {
		verb = "would be deleted"
	}
	return fmt.Sprintf("%s: %s %s, %s freed", id, what, verb, size(freed.Bytes))
}

// size is a number of bytes as people read it.
func size(bytes int64) string {
	value, unit := float64(bytes), ""
	for _, unit = range []string{"B", "KiB", "MiB", "GiB", "TiB"} {
		if value < 1024 || unit == "TiB" {
			break
		}
		value /= 1024
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", bytes)
	}
	return fmt.Sprintf("%.1f %s", value, unit)
}
