// Docker-credential-dtz is a Docker credential helper for DownToZero: log in
// once, and Docker always gets a fresh token.
package main

import (
	"context"
	"os"
	"os/signal"
	"os/user"
	"syscall"
	"time"
)

func main() {
	os.Exit(run(untilSignal(), os.Args[1:], system{
		stdin:  os.Stdin,
		stdout: os.Stdout,
		stderr: os.Stderr,
		lookup: lookupEnv,
		now:    time.Now,
	}))
}

// lookupEnv is os.LookupEnv, with the home folder that the account has where
// HOME does not say: systemd sets it for services with User= only, so not for
// the kubelet (systemd.exec(5)). Docker looks for its config.json likewise.
func lookupEnv(name string) (value string, set bool) {
	value, set = os.LookupEnv(name)
	if name == "HOME" && value == "" {
		if account, err := user.Current(); err == nil {
			return account.HomeDir, account.HomeDir != ""
		}
	}
	return value, set
}

// untilSignal is a context that ends with the first Ctrl-C or SIGTERM. A second
// ends the program at once.
func untilSignal() context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx
}

// Exit codes. Scripts rely on them.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitEnded       = 3 // status: the login has expired or was refused
	exitStoreAway   = 4 // status: the keychain is out of reach
	exitInterrupted = 130
)

// run is the program: the verbs that Docker calls go straight to the helper,
// everything else to the command line.
func run(ctx context.Context, args []string, sys system) int {
	if len(args) == 1 && isVerb(args[0]) {
		return sys.serveDocker(ctx, args[0])
	}
	return sys.serveTerminal(ctx, args)
}
