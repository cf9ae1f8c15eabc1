// Withkeychain runs a command with an empty keychain of its own, which ends
// with it: withkeychain COMMAND [ARGUMENT…]. It exits with the command's code;
// 125 means that there was no keychain to be had.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: withkeychain COMMAND [ARGUMENT…]")
		os.Exit(2)
	}
	os.Exit(run(os.Args[1], os.Args[2:]))
}

func run(name string, args []string) int {
	// The terminal sends Ctrl-C to the command too; it ends, and then we do.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	env, stop, err := testenv.StartKeychain()
	if err != nil {
		fmt.Fprintln(os.Stderr, "withkeychain:", err)
		return 125
	}
	defer stop()
	cmd := exec.Command(name, args...)
	cmd.Env = os.Environ()
	for key, value := range env {
		cmd.Env = append(cmd.Env, key+"="+value)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "withkeychain:", err)
		return 125
	}
	return cmd.ProcessState.ExitCode()
}
