package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
)

const (
	// maxDenyListSize is in bytes: 100,000 API keys.
	maxDenyListSize = 8 << 20
	// denyListInterval is how soon a changed file counts.
	denyListInterval = time.Second
	// settled is how old a file has to be for its date to tell it from the
	// next one: some file systems count in two seconds.
	settled = 2 * time.Second
)

// A DenyList is a file of who is refused whatever his credential says. A nil
// one is empty. It is safe for concurrent use.
//
// The file is a JSON object of two arrays, either of which may be missing:
//
//	{"identities": ["identity-abc12345"], "apiKeys": ["<SHA-256 in hex>"]}
//
// Identities count in both spellings, with and without their kind, and UUIDs
// and hex in either case. The hash of an API key is of its canonical form, with
// apikey- in front and a UUID in lower case, and counts for every spelling of
// the key; that of another spelling counts for that one only. Whatever else is there is an error: a list that says
// less than its author thinks would let somebody in. Write a new file and
// rename it.
type DenyList struct {
	path    string
	log     *slog.Logger
	current atomic.Pointer[denials]

	// What the last good look at the file has found. Only one goroutine looks.
	seen    os.FileInfo
	seenAt  time.Time
	sum     [sha256.Size]byte // of its contents
	failure string            // of reading it, as logged; "" is none
}

// denials are the contents of a deny-list.
type denials struct {
	identities map[string]struct{} // canonical
	apiKeys    map[[sha256.Size]byte]struct{}
}

// OpenDenyList reads the file at path, which has to be there. Nil for log means
// none.
func OpenDenyList(path string, log *slog.Logger) (*DenyList, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	d := &DenyList{path: path, log: log}
	if err := d.read(); err != nil {
		return nil, fmt.Errorf("reading the deny-list: %w", err)
	}
	return d, nil
}

// Run reads the file again whenever it has changed, until ctx ends. While the
// file is missing or broken the old list stays in force.
func (d *DenyList) Run(ctx context.Context) {
	ticker := time.NewTicker(denyListInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			d.refresh()
		case <-ctx.Done():
			return
		}
	}
}

func (d *DenyList) refresh() {
	old := d.current.Load()
	if err := d.read(); err != nil {
		if d.failure != err.Error() {
			d.log.Error("deny-list not read; the old one stays in force", "error", err)
		}
		d.failure = err.Error()
		return
	}
	d.failure = ""
	if list := d.current.Load(); list != old {
		d.log.Info("deny-list read", "file", d.path, "identities", len(list.identities), "api_keys", len(list.apiKeys))
	}
}

// read puts the file into force, unless it is the one seen last.
func (d *DenyList) read() error {
	file, err := os.OpenFile(d.path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // else a FIFO is waited for
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if d.hasSeen(info) {
		return nil
	}
	now := time.Now()
	data, err := readRegular(file, info)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(data); d.seen == nil || sum != d.sum {
		list, err := parseDenials(data)
		if err != nil {
			return fmt.Errorf("%s: %w", d.path, err)
		}
		d.current.Store(list)
		d.sum = sum
	}
	d.seen, d.seenAt = info, now
	return nil
}

func (d *DenyList) hasSeen(info os.FileInfo) bool {
	return d.seen != nil && os.SameFile(info, d.seen) && info.Size() == d.seen.Size() &&
		info.ModTime().Equal(d.seen.ModTime()) && d.seenAt.Sub(info.ModTime()) > settled
}

// readRegular reads a file that can be neither endless nor waited for.
func readRegular(file *os.File, info os.FileInfo) ([]byte, error) {
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", file.Name())
	}
	data, err := io.ReadAll(io.LimitReader(file, maxDenyListSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxDenyListSize {
		return nil, fmt.Errorf("%s: over %d MiB", file.Name(), maxDenyListSize>>20)
	}
	return data, nil
}

// parseDenials reads a deny-list. Its errors say where they are, and quote
// nothing: somebody may have put a key where its hash belongs.
func parseDenials(data []byte) (*denials, error) {
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) { // RFC 8259 §8.1
		return nil, errors.New("begins with a byte order mark, which JSON does not")
	}
	members, err := parseObject(data, []string{"identities", "apiKeys"})
	if err != nil {
		return nil, err
	}
	list := &denials{make(map[string]struct{}), make(map[[sha256.Size]byte]struct{})}
	for i, m := range members {
		switch m.name {
		case "identities":
			err = addEach(list.identities, m, parseIdentity)
		case "apiKeys":
			err = addEach(list.apiKeys, m, parseSum)
		default:
			err = fmt.Errorf("member %d is neither identities nor apiKeys", i+1)
		}
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// addEach adds what parse makes of each text of an array.
func addEach[T comparable](set map[T]struct{}, m member, parse func(string) (T, error)) error {
	texts, ok := parseStrings(m.value)
	if !ok {
		return errors.New(m.name + " is not an array of strings")
	}
	for i, text := range texts {
		parsed, err := parse(text)
		if err != nil {
			return fmt.Errorf("%s[%d] is %w", m.name, i, err)
		}
		set[parsed] = struct{}{}
	}
	return nil
}

func parseIdentity(text string) (string, error) {
	id, ok := platform.IdentityID(text)
	bare := strings.TrimPrefix(id, "identity-")
	if !ok || !isIdentifier(bare) || bare != strings.ToLower(bare) { // a UUID is in lower case by now
		return "", errors.New("not an identity's id")
	}
	return id, nil
}

func parseSum(text string) (sum [sha256.Size]byte, err error) {
	decoded, err := hex.DecodeString(text)
	if err != nil || len(decoded) != len(sum) {
		return sum, errors.New("not a SHA-256 in hex")
	}
	return [sha256.Size]byte(decoded), nil
}

// hasIdentity is for the canonical id.
func (d *DenyList) hasIdentity(id string) bool {
	if d == nil {
		return false
	}
	_, denied := d.current.Load().identities[id]
	return denied
}

// hasAPIKey is for a key as it was sent.
func (d *DenyList) hasAPIKey(key string) bool {
	if d == nil {
		return false
	}
	listed := d.current.Load().apiKeys
	_, denied := listed[sha256.Sum256([]byte(key))]
	if canonical, ok := platform.APIKey(key); ok && !denied {
		_, denied = listed[sha256.Sum256([]byte(canonical))]
	}
	return denied
}
