package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// usageError is a command line that cannot be carried out as it stands.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// explainUsage makes cmd, and those below it, say in words of ours what is wrong
// with a command line, and note when one begins: errors before that are of the
// command line.
func explainUsage(cmd *cobra.Command, started *bool) {
	if allowed := cmd.Args; allowed != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := allowed(cmd, args)
			if _, ours := errors.AsType[*usageError](err); err == nil || ours {
				return err
			}
			if cmd.HasSubCommands() {
				return unknownCommand(cmd, args[0])
			}
			for i, arg := range args {
				if allowed(cmd, args[:i+1]) != nil {
					return usagef("%q takes no further argument, such as %q", cmd.CommandPath(), arg)
				}
			}
			return err
		}
	}
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*started = true
			return run(cmd, args)
		}
	}
	cmd.SetFlagErrorFunc(explainFlag)
	for _, sub := range cmd.Commands() {
		explainUsage(sub, started)
	}
}

func unknownCommand(cmd *cobra.Command, name string) error {
	err := usagef("%q has no command %q", cmd.CommandPath(), name)
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		return withHint(err, "did you mean %q?", cmd.CommandPath()+" "+near[0])
	}
	return err
}

// explainFlag says what is wrong with a flag.
func explainFlag(cmd *cobra.Command, err error) error {
	if e, ok := errors.AsType[*pflag.NotExistError](err); ok && e.GetSpecifiedShortnames() == "" {
		err = usagef("%q has no flag --%s", cmd.CommandPath(), e.GetSpecifiedName())
		if near := flagNear(cmd, e.GetSpecifiedName()); near != "" {
			return withHint(err, "did you mean --%s?", near)
		}
	}
	if e, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		name, _ := pflag.UnquoteUsage(e.GetFlag())
		return usagef("--%s needs a value: %s", e.GetFlag().Name, name)
	}
	if e, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		wanted := "a number"
		if e.GetFlag().Value.Type() == "bool" {
			wanted = "true or false"
		}
		return usagef("--%s=%s: %s is wanted", e.GetFlag().Name, e.GetValue(), wanted)
	}
	return err
}

// flagNear is the flag whose name is nearest to a mistyped one, by cobra's
// measure for commands.
func flagNear(cmd *cobra.Command, name string) string {
	names := cobra.Command{SuggestionsMinimumDistance: 2}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
		}
	})
	near := names.SuggestionsFor(name)
	if len(near) == 0 {
		return ""
	}
	return near[0]
}

// exclusive makes it an error to set two of the flags, and keeps shells from
// offering that.
func exclusive(cmd *cobra.Command, flags ...string) {
	cmd.MarkFlagsMutuallyExclusive(flags...)
	allowed := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		set := slices.DeleteFunc(slices.Clone(flags), func(name string) bool { return !cmd.Flags().Changed(name) })
		if len(set) > 1 {
			return usagef("--%s cannot be used together", strings.Join(set, " and --"))
		}
		return allowed(cmd, args)
	}
}
