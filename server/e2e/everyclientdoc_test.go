//go:build clients

package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "write what the clients show into docs/clients.md")

// devRegistry is the address that dtz-registry dev has by default, and stands
// in the document for the one that a test has.
const devRegistry = "127.0.0.1:5000"

// compare checks, or writes, the client's row in both tables of
// docs/clients.md and its block. What people wrote around them stays.
func (s seen) compare(t *testing.T, c client) {
	t.Helper()
	document.Lock()
	defer document.Unlock()
	path := filepath.Join("..", "..", "docs", "clients.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	anchor := fmt.Sprintf("[%s](#%s)", c.name, strings.ToLower(c.name))
	wanted := string(text)
	for _, part := range []struct{ name, pattern, want string }{
		{"commands", `(?m)^\| ` + regexp.QuoteMeta(anchor) + ` \|.*$`, row(anchor, s.version, commands(c.push), commands(c.pull), plainHTTPFlags(c))},
		{"places", `(?m)^\| ` + c.name + ` \|.*$`, row(append([]string{c.name}, marks(c, s.places)...)...)},
		{"expired login", `(?s)\n### ` + c.name + "\n\n```console\n.*?```\n", "\n### " + c.name + "\n\n```console\n" + s.expired + "```\n"},
	} {
		place := regexp.MustCompile(part.pattern).FindStringIndex(wanted)
		if place == nil {
			t.Errorf("%s has no place for the %s of %s, which are:\n%s", path, part.name, c.name, part.want)
			continue
		}
		if got := wanted[place[0]:place[1]]; got != part.want && !*update {
			t.Errorf("%s, %s: -update writes\n%s\nfor\n%s", path, part.name, part.want, got)
		}
		wanted = wanted[:place[0]] + part.want + wanted[place[1]:]
	}
	if *update && wanted != string(text) {
		if err := os.WriteFile(path, []byte(wanted), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

var document sync.Mutex // held while the file is read and written

func row(cells ...string) string { return "| " + strings.Join(cells, " | ") + " |" }

// commands are what one types for cr.dtz.rocks.
func commands(list []string) string {
	var cells []string
	for _, command := range list {
		typed := strings.Join(strings.Fields(plainHTTP.ReplaceAllString(command, "")), " ")
		cells = append(cells, "`"+typed+"`")
	}
	if cells == nil {
		return "–"
	}
	return strings.Join(cells, "<br>")
}

// plainHTTPFlags are what a command needs besides for a registry without TLS.
func plainHTTPFlags(c client) string {
	var flags []string
	for _, command := range slices.Concat(c.push, c.pull) {
		for _, bracket := range plainHTTP.FindAllString(command, -1) {
			if flag := "`" + over(bracket, devRegistry) + "`"; !slices.Contains(flags, flag) {
				flags = append(flags, flag)
			}
		}
	}
	if flags == nil {
		return "nothing"
	}
	return strings.Join(flags, ", ")
}

// marks are the cells of the table of places.
func marks(c client, found []string) []string {
	var cells []string
	for _, place := range everyPlace {
		cell := "no"
		if slices.Contains(found, place.name) {
			cell = "yes"
		}
		cells = append(cells, cell)
	}
	own := "–"
	if c.own != "" {
		name := "`$" + c.own + "`"
		own = name + ": no"
		if slices.Contains(found, name) {
			own = name + ": yes"
		}
	}
	return append(cells, own)
}

// neutral takes out of what a client said what is another each time.
func (m *machine) neutral(said string, p *platform) string {
	said = strings.NewReplacer(p.Registry, devRegistry, m.home, "/home/you").Replace(said)
	for _, r := range []struct {
		pattern *regexp.Regexp
		by      string
	}{
		{regexp.MustCompile(`expired \d+ (second|minute)s? ago`), "expired 2 hours ago"},
		{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`), "2026-11-24T08:00:00Z"},
		{regexp.MustCompile(`\d{4}/\d\d/\d\d \d\d:\d\d:\d\d`), "2026/11/24 08:00:00"},
		{regexp.MustCompile(`sha256:[0-9a-f]{64}`), "sha256:…"},
		{regexp.MustCompile(`(?m)^[0-9a-f]{12}: `), "…: "}, // a layer
		{regexp.MustCompile(`[ \t\r]+\n`), "\n"},
		{regexp.MustCompile(`\n{2,}`), "\n"},
		{regexp.MustCompile(`(?m)^#\d+ (\[|building|transferring|DONE|CACHED).*\n`), ""},                  // how far BuildKit got
		{regexp.MustCompile(`(?m)^.*level=WARN msg="Failed to (push blob|copy (config|layer))".*\n`), ""}, // whichever regctl tried first
	} {
		said = r.pattern.ReplaceAllString(said, r.by)
	}
	if said = strings.TrimSpace(said); said == "" {
		return ""
	}
	return said + "\n"
}
