package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
)

// openBrowserWindow is xdg-open: it returns while the browser is open.
func openBrowserWindow() {
	if code := os.Getenv("OPENER_EXIT"); code != "" {
		fmt.Println("xdg-open: on standard output")
		os.Exit(3)
	}
	cmd := exec.Command("visitor", os.Args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// visitLoginPage is a browser in which somebody logs in, as far as VISITOR says
// who. It leaves what it shows in the end, with the address, in the file SHOWN.
func visitLoginPage(address string) {
	shown, err := visit(address, os.Getenv("VISITOR"))
	if err != nil {
		shown = err.Error()
	}
	file := os.Getenv("SHOWN")
	err = os.WriteFile(file+".new", []byte(shown+"\n"), 0o600)
	if err == nil {
		err = os.Rename(file+".new", file) // whole, or not at all
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func visit(address, user string) (shown string, err error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return "", err
	}
	browser := &http.Client{Jar: jar}
	resp, err := browser.Get(address)
	if err == nil && user != "" && resp.Request.URL.Path == "/login" {
		_ = resp.Body.Close()
		resp, err = browser.PostForm(resp.Request.URL.String(), url.Values{"username": {user}, "password": {testPassword}})
	}
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return fmt.Sprintf("%s\n%s\n%s", resp.Request.URL, resp.Status, body), err
}

// A page about a client that is unknown sends no browser back.
func TestNobodyCameForTheWrongContext(t *testing.T) {
	if hint := hintOf(explainWeb(oauth.ErrNobodyCame)); !strings.Contains(hint, "--context") || !strings.Contains(hint, "--no-browser") {
		t.Errorf("the hint is %q, want --context and --no-browser in it", hint)
	}
}
