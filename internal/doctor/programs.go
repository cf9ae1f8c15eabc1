package doctor

import (
	"context"
	"os/exec"
	"strings"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
)

// VersionOf asks a program of our name for its version, as Docker would run it;
// "" if it does not say.
func VersionOf(ctx context.Context, path string) string {
	// docker-credential-dtz (package) version
	words := strings.Fields(output(ctx, path, "version"))
	if len(words) != 3 || words[0] != program {
		return ""
	}
	return oauth.Clean(words[2])
}

// DesktopPath is the PATH of programs that no shell has started: launchd's on
// macOS, with /usr/local/bin, which Docker Desktop adds; that of the user's
// systemd on Linux. It is "" where there is none, or none of its own.
func DesktopPath(ctx context.Context, goos string) string {
	switch goos {
	case "darwin":
		return "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
	case "linux":
		for line := range strings.Lines(output(ctx, "systemctl", "--user", "show-environment")) {
			if path, found := strings.CutPrefix(strings.TrimSpace(line), "PATH="); found {
				return strings.Trim(path, "$'") // quoted where the shell would want it
			}
		}
	}
	return ""
}

// output is what a program writes, "" if it fails.
func output(ctx context.Context, name string, args ...string) string {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	text, err := cmd.Output()
	if err != nil {
		return ""
	}
	return string(text)
}
