package faults

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Canaries are secrets that are looked for where they must not be, in every
// spelling in which a request or a log could hold them.
type Canaries struct {
	t         testing.TB
	mu        sync.Mutex
	spellings map[string]string // and whose they are
}

// NewCanaries knows none yet.
func NewCanaries(t testing.TB) *Canaries { return &Canaries{t: t, spellings: map[string]string{}} }

// Add adds a secret by its name. That of a token begins with "the token": see
// [Canaries.Answer].
func (c *Canaries) Add(secret, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range spellings(secret) {
		c.spellings[s] = name
	}
	if strings.Count(secret, ".") == 2 { // a token is worth nothing without its signature
		c.spellings[secret[strings.LastIndex(secret, ".")+1:]] = name
	}
}

func spellings(secret string) []string {
	quoted, _ := json.Marshal(secret) // of a string, no error
	all := []string{
		secret, strings.Trim(string(quoted), `"`), fmt.Sprintf("%+q", secret)[1 : len(secret)+1],
		url.QueryEscape(secret), url.PathEscape(secret), url.UserPassword("u", secret).String()[2:],
		hex.EncodeToString([]byte(secret)),
	}
	// Base64 is another text in each of three places, and its first and last
	// characters depend on the neighbours: as in Basic authentication.
	for before := range 3 {
		data := append(make([]byte, before), secret...)
		first, last := (before*8+5)/6, len(data)*8/6
		all = append(all, base64.StdEncoding.EncodeToString(data)[first:last], base64.URLEncoding.EncodeToString(data)[first:last])
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Check looks for all of them.
func (c *Canaries) Check(where, text string) {
	c.t.Helper()
	c.check(where, text, func(string) bool { return true })
}

// Answer looks for all but tokens, in what hands one out.
func (c *Canaries) Answer(text string) {
	c.t.Helper()
	c.check("the answer", text, func(name string) bool { return !strings.HasPrefix(name, "the token") })
}

func (c *Canaries) check(where, text string, wanted func(name string) bool) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for spelling, name := range c.spellings {
		if wanted(name) && strings.Contains(text, spelling) {
			c.t.Errorf("%s shows %s", where, name)
		}
	}
}

var looksSecret = regexp.MustCompile(`apikey-[A-Za-z0-9-]{8,}|eyJ[A-Za-z0-9_-]{20,}`)

// Output looks for all that can be a secret too: nobody knows the API keys that
// login --keep has made.
func (c *Canaries) Output(text string) {
	c.t.Helper()
	c.Check("output", text)
	if looksSecret.MatchString(text) {
		c.t.Errorf("output shows an API key or a token: %q", looksSecret.ReplaceAllString(text, "<HERE>"))
	}
}

// Files looks into every file below dir, and at its name. None of them is a core
// file.
func (c *Canaries) Files(dir string) {
	c.t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went meanwhile
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		c.Check(path, path+string(data))
		if bytes.HasPrefix(data, []byte("\x7fELF")) || d.Name() == "core" {
			c.t.Errorf("%s is a core file", path)
		}
		return err
	})
	if err != nil {
		c.t.Error(err)
	}
}

// Processes watches the command lines of all processes that begin from now on,
// and the environment of those that a helper starts, until it is told to stop.
// On other systems than Linux it sees none.
func (c *Canaries) Processes() (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	// With the file in the pattern, Glob would list the folder of each process.
	const processes = "/proc/[0-9]*"
	before, _ := filepath.Glob(processes)
	go func() {
		defer close(done)
		seen := map[string]string{} // command lines
		for {
			select {
			case <-quit:
				return
			case <-time.After(5 * time.Millisecond):
			}
			now, _ := filepath.Glob(processes)
			for _, dir := range now {
				if _, old := slices.BinarySearch(before, dir); old {
					continue
				}
				if line := readString(dir + "/cmdline"); line != seen[dir] {
					seen[dir] = line
					c.process(dir, line)
				}
			}
		}
	}()
	return sync.OnceFunc(func() { close(quit); <-done })
}

func (c *Canaries) process(dir, line string) {
	c.Check(dir+"/cmdline", line)
	_, status, _ := strings.Cut(readString(dir+"/status"), "\nPPid:")
	parent, _, _ := strings.Cut(strings.TrimSpace(status), "\n")
	started := readString("/proc/" + parent + "/cmdline")
	name, _, _ := strings.Cut(started, "\x00")
	// With its parent's command line it is the parent's copy still (vfork(2)),
	// and its environment the parent's.
	if filepath.Base(name) == program && line != started {
		c.Check(dir+"/environ", readString(dir+"/environ"))
	}
}

// readString is what can be read of a file: processes come and go.
func readString(path string) string {
	data, _ := os.ReadFile(path)
	return string(data)
}
