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
	"syscall"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

const noKeychain = 125

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: withkeychain COMMAND [ARGUMENT…]")
		os.Exit(2)
	}
	os.Exit(run(os.Args[1], os.Args[2:]))
}

func run(name string, args []string) int {
	// Ctrl-C reaches the command by itself; we end when it does.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)

	env, stop, err := testenv.StartKeychain()
	if err != nil {
		fmt.Fprintln(os.Stderr, "withkeychain:", err)
		return noKeychain
	}
	defer stop()
	cmd := exec.Command(name, args...)
	cmd.Env = os.Environ()
	for key, value := range env {
		cmd.Env = append(cmd.Env, key+"="+value)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "withkeychain:", err)
		return noKeychain
	}
	go func() {
		for s := range signals {
			if s == syscall.SIGTERM {
				_ = cmd.Process.Signal(s)
			}
		}
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "withkeychain:", err)
		return 1
	}
	if code := cmd.ProcessState.ExitCode(); code >= 0 {
		return code
	}
	return 1 // ended by a signal
}
