//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// At a terminal in WSL it is asked whose helper Docker is to use: Windows', for
// whoever just presses Enter. The diff of a dry run is in colour there.
func TestConfigureAsksInWSL(t *testing.T) {
	testenv.Need(t, "keychain")
	for answer, want := range map[string]string{"\r": `"dtz.exe"`, "y\r": `"dtz.exe"`, "n\r": `"dtz"`, "what\rn\r": `"dtz"`} {
		t.Run(strings.TrimSpace(answer), func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, windowsProgram), []byte("#!/bin/sh\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			p.setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
			p.setenv("WSL_DISTRO_NAME", "Debian")
			p.setenv("TERM", "xterm")

			term := startInTerminal(t, p.env, "configure")
			term.waitFor("[Y/n]", true)
			term.write(answer)
			if code := term.exitCode(); code != exitOK {
				t.Errorf("exit code %d: %s", code, term.screen())
			}
			config := filepath.Join(p.home, ".docker", "config.json")
			data, err := os.ReadFile(config)
			if err != nil || !strings.Contains(string(data), `"cr.dtz.rocks": `+want) {
				t.Errorf("config.json holds %s, %v, want %s", data, err, want)
			}

			term = startInTerminal(t, p.env, "unconfigure", "--dry-run")
			if code := term.exitCode(); code != exitOK || !strings.Contains(term.screen(), "\x1b[31m-\t\t\"cr.dtz.rocks\": "+want+"\x1b[0m") {
				t.Errorf("exit code %d: %q, want the entry in red", code, term.screen())
			}
		})
	}
}
