package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/dockerconfig"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
)

// In WSL, programs of Windows run too, and Docker looks for a helper as it does
// for any program: an entry dtz.exe has it ask Windows' own helper, which keeps
// its login in Windows' keychain, where WSL by itself has none.
const windowsProgram = program + ".exe"

// inWSL reports whether this is Linux in Windows: WSL sets the variable, but
// not for every process that sudo or systemd starts.
func (sys system) inWSL() bool {
	if sys.getenv("WSL_DISTRO_NAME") != "" {
		return true
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	return err == nil && strings.Contains(strings.ToLower(string(release)), "microsoft")
}

// hasWindowsHelper reports whether Docker in WSL can ask Windows' helper.
func (sys system) hasWindowsHelper() bool {
	if !sys.inWSL() {
		return false
	}
	_, err := exec.LookPath(windowsProgram)
	return err == nil
}

// checkHelperOf refuses a login here for a registry at which Docker would not
// ask for it.
func (sys system) checkHelperOf(addresses []config.Address) error {
	t, err := sys.target(false)
	if err != nil || !sys.hasWindowsHelper() {
		return nil
	}
	helpers, err := t.Helpers()
	if err != nil {
		return nil // whoever writes it says what is wrong
	}
	for _, address := range addresses {
		if helpers[string(address)] == dockerconfig.HelperInWindows {
			return withHint(fmt.Errorf("logging in: Docker asks %s for %s, which has its own logins", windowsProgram, address),
				"run %q, or %q to use this one", windowsProgram+" login", program+" configure --windows=false")
		}
	}
	return nil
}

// chooseHelper is the helper that t is to name: this program, or in WSL
// Windows' one. What was chosen before holds until a flag says otherwise.
func (sys system) chooseHelper(ctx context.Context, s *session.Session, t target, addresses []config.Address, o configureOptions) (string, error) {
	if o.chosen && !o.windows {
		return dockerconfig.Helper, nil
	}
	if o.windows {
		if !sys.inWSL() {
			return "", usagef("--windows is for WSL, which this is not")
		}
		return dockerconfig.HelperInWindows, nil
	}
	if !sys.hasWindowsHelper() || o.apiKeyFile != "" {
		return dockerconfig.Helper, nil
	}
	helpers, err := t.Helpers()
	if err != nil {
		return dockerconfig.Helper, nil // whoever writes it says what is wrong
	}
	for _, address := range addresses {
		if helper := helpers[string(address)]; dockerconfig.IsOurs(helper) {
			return helper, nil
		}
	}
	if places, err := s.Places(); err != nil || len(places) > 0 {
		return dockerconfig.Helper, nil // whoever is logged in here has chosen
	}
	if !sys.interactive() || o.yes || o.dryRun {
		sys.say("hint: to have the login in Windows' keychain, run %q", program+" configure --windows")
		return dockerconfig.Helper, nil
	}
	yes, err := sys.confirm(ctx, "This is WSL, and "+windowsProgram+" is on PATH. Use it, so that the login lies in Windows' keychain?", true)
	if err != nil || !yes {
		return dockerconfig.Helper, err
	}
	return dockerconfig.HelperInWindows, nil
}
