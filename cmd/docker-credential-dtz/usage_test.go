package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// Wrong command lines end with exit code 2, before anything is done, and say
// what would be right.
func TestUsageErrors(t *testing.T) {
	for _, args := range []string{
		"frobnicate", "--bogus", "login extra", "login --bogus", "login -x", "login --registry",
		"login --redirect-port http", "login --password-stdin", "login --api-key-stdin --keep",
		"login --web --username a", "login", "login --profile a/b --api-key-stdin", "login --registry a/b --api-key-stdin",
		"logout --all --profile a", "logout now", "status now", "status --output yaml", "status -q --verbose",
		"token --registry a --profile b", "token me", "context ls", "context use a b",
		"help frobnicate", "get cr.dtz.rocks", "store it", "-q --verbose list",
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), strings.Fields(args), system{
			stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, now: time.Now,
			lookup: func(name string) (string, bool) { return t.TempDir(), name == "HOME" },
		})
		said := stderr.String()
		if code != exitUsage || stdout.Len() > 0 || !strings.HasPrefix(said, program+": ") ||
			!strings.Contains(said, "\nhint: ") || strings.Count(said, "\n") != 2 {
			t.Errorf("%s: exit code %d, standard output %q, standard error %q", args, code, &stdout, said)
		}
	}
}
