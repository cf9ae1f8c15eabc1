package main

import (
	"os/exec"
	"strings"
	"testing"
)

// What people install to hold their credentials stays small: neither the
// registry's side nor a container library gets into it.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	const ours = "github.com/DownToZero-Cloud/docker-credential-dtz/"
	allowed := []string{
		ours + "cmd/docker-credential-dtz",
		ours + "internal/atomicfile", ours + "internal/config", ours + "internal/crash", ours + "internal/dockerconfig", ours + "internal/doctor",
		ours + "internal/oauth", ours + "internal/platform", ours + "internal/private", ours + "internal/remote",
		ours + "internal/secret", ours + "internal/session", ours + "internal/store",
		"github.com/cli/browser",
		"github.com/docker/docker-credential-helpers/credentials",
		"github.com/gofrs/flock",
		"github.com/godbus/dbus/v5",
		"github.com/rogpeppe/go-internal/diff", // configure --dry-run
		"github.com/spf13/cobra", "github.com/spf13/pflag",
		"github.com/tailscale/hujson",
		"github.com/zalando/go-keyring",
		"golang.org/x/sys/", "golang.org/x/term",
		"github.com/danieljoos/wincred", "github.com/inconshreveable/mousetrap",
	}
next:
	for _, path := range strings.Fields(string(out)) {
		for _, a := range allowed {
			if path == a || strings.HasPrefix(path, strings.TrimSuffix(a, "/")+"/") && !strings.HasPrefix(a, ours) {
				continue next
			}
		}
		t.Errorf("the helper now depends on %s", path)
	}
}
