package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func readme(t *testing.T) (path, text string) {
	t.Helper()
	path = filepath.Join("..", "..", "README.md")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, string(data)
}

func testRoot() (*cobra.Command, *bytes.Buffer) {
	var out bytes.Buffer
	sys := system{
		stdin: strings.NewReader(""), stdout: &out, stderr: &out, now: time.Now,
		lookup: func(string) (string, bool) { return "", false },
	}
	return sys.newRoot(), &out
}

// What README says of the commands is what the program says.
func TestReadmeHasTheHelp(t *testing.T) {
	root, out := testRoot()
	root.SetArgs([]string{"--help"})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	path, text := readme(t)
	block := regexp.MustCompile("(?s)(<!-- help: [^\n]*-->\n```console\n)(.*?)(```\n<!-- /help -->)")
	if !block.MatchString(text) {
		t.Fatal("README.md has no block for the help")
	}
	want := block.ReplaceAllStringFunc(text, func(found string) string {
		parts := block.FindStringSubmatch(found)
		return parts[1] + "$ docker-credential-dtz --help\n" + out.String() + parts[3]
	})
	if want == text {
		return
	}
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Error("README.md does not show the present help; -update writes it")
}

// Every flag and variable that README names exists, and every command is named.
func TestReadmeAndProgramAgree(t *testing.T) {
	_, text := readme(t)
	root, _ := testRoot()
	flags := map[string]bool{"help": true, "version": true}
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) { flags[f.Name] = true })
	for _, cmd := range root.Commands() {
		for _, c := range append(cmd.Commands(), cmd) {
			c.Flags().VisitAll(func(f *pflag.Flag) { flags[f.Name] = true })
		}
		if !strings.Contains(text, cmd.Name()) {
			t.Errorf("README.md does not name the command %s", cmd.Name())
		}
	}
	for _, line := range strings.Split(text, "\n") {
		for _, command := range regexp.MustCompile("docker-credential-dtz[^`|&]*").FindAllString(line, -1) {
			for _, flag := range regexp.MustCompile(`--([a-z-]+)`).FindAllStringSubmatch(command, -1) {
				if !flags[flag[1]] {
					t.Errorf("README.md names the flag --%s, which no command has: %s", flag[1], command)
				}
			}
		}
	}

	inCode := map[string]bool{}
	sources, err := filepath.Glob("../../*/*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	variable := regexp.MustCompile(`\bDTZ_[A-Z_]+`)
	for _, path := range sources {
		if strings.HasSuffix(path, "_test.go") || strings.Contains(path, "testenv") || strings.Contains(path, "faults") { // of tests only
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range variable.FindAllString(string(data), -1) {
			inCode[name] = true
		}
	}
	inReadme := map[string]bool{}
	for _, name := range variable.FindAllString(text, -1) {
		inReadme[name] = true
		if !inCode[name] {
			t.Errorf("README.md names %s, which nothing reads", name)
		}
	}
	for name := range inCode {
		if !inReadme[name] {
			t.Errorf("README.md does not name %s", name)
		}
	}
}
