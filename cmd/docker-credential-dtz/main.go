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

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/crash"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
)

func main() {
	os.Exit(run(untilSignal(), os.Args[1:], ownSystem()))
}

// ownSystem is this process's. What holds secrets in it is closed first.
func ownSystem() system {
	stderr := crash.Quietly(program, buildVersion)
	return system{stdin: os.Stdin, stdout: os.Stdout, stderr: stderr, lookup: takeSecrets(), now: time.Now}
}

// takeSecrets takes the variables that hold secrets out of the environment that
// every program inherits which this one starts, or a library of it: a browser,
// what opens it, macOS' security. The lookup returned still knows them.
func takeSecrets() (lookup func(string) (string, bool)) {
	taken := map[string]string{}
	for _, name := range []string{
		string(session.FromAPIKey), string(session.FromAPIKeyFile), string(session.FromAccessToken),
		"DOCKER_AUTH_CONFIG",
	} {
		if value, set := os.LookupEnv(name); set {
			taken[name] = value
			_ = os.Unsetenv(name)
		}
	}
	return func(name string) (string, bool) {
		if value, set := taken[name]; set {
			return value, true
		}
		return lookupEnv(name)
	}
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

// untilSignal is a context that ends with the first Ctrl-C, Ctrl-\ or SIGTERM, or
// with the terminal, unless nohup has it outlive that. A second signal ends the
// program at once, but not that of a terminal: one comes from the shell, as it
// ends, and another from the kernel (bash(1), setsid(2)).
func untilSignal() context.Context {
	signals := []os.Signal{os.Interrupt, syscall.SIGQUIT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	context.AfterFunc(ctx, func() {
		signal.Ignore(syscall.SIGHUP)
		stop()
	})
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
	defer crash.Guard()
	if len(args) == 1 && isVerb(args[0]) {
		return sys.serveDocker(ctx, args[0])
	}
	return sys.serveTerminal(ctx, args)
}
