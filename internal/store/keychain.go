package store

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/zalando/go-keyring"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/atomicfile"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/crash"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/private"
)

// service is the name of our items in the keychain.
const service = "docker-credential-dtz"

// Keychain keeps each login as one item of the operating system's keychain. A
// record over Cap goes into a sealed file, and the item holds the file's name
// and key: writing the item is the one moment of commit in both cases.
type Keychain struct {
	// Dir is the folder of the sealed files.
	Dir string
	// Cap is the largest item in bytes. 0 means what this platform leaves.
	Cap int
	// Patience is how long the keychain may take in all, over every call of
	// this process: it can wait for a prompt that nobody answers. 0 means 5 s.
	Patience time.Duration

	spent stopwatch // of Patience
}

// item is the form of a keychain item: a record, or where the record lies.
type item struct {
	Record json.RawMessage `json:"login,omitempty"`
	File   string          `json:"file,omitempty"`
	Key    []byte          `json:"fileKey,omitempty"`
}

// Where implements [Store].
func (k *Keychain) Where(key Key) []string {
	where := []string{k.itemName(key)}
	for _, path := range k.sealedFiles(key) {
		where = append(where, "the file "+path+", sealed with a key in the keychain")
	}
	return where
}

func (k *Keychain) itemName(key Key) string {
	return fmt.Sprintf("%s, item %s, %s", keychainName, service, account(key))
}

// account is the item's user.
func account(key Key) string { return key.Profile + " " + key.Identity }

// Load implements [Store].
func (k *Keychain) Load(ctx context.Context, key Key) (*Login, error) {
	defer k.queue(ctx)()
	login, err := k.load(ctx, key)
	if errors.Is(err, errSealedGone) {
		// Between our two reads somebody saved: the item names a new file now.
		login, err = k.load(ctx, key)
	}
	if errors.Is(err, errSealedGone) {
		return nil, &DamagedError{k.itemName(key), err.Error()}
	}
	return login, err
}

// queue has few read at the same time. A keychain answers one after another, and
// where two hundred ask at once each would see the time that all of them take, and
// could not tell it from a keychain that does not answer. Who writes goes first.
func (k *Keychain) queue(ctx context.Context) (done func()) {
	if k.Dir == "" {
		return func() {}
	}
	const atOnce = 4
	return private.Queue(ctx, filepath.Join(filepath.Dir(k.Dir), "locks", fmt.Sprintf("keychain-%d.lock", os.Getpid()%atOnce)))
}

// errSealedGone is not fs.ErrNotExist, which dialling a session bus that has
// ended fails with, too.
var errSealedGone = errors.New("the sealed file that it names is gone")

func (k *Keychain) load(ctx context.Context, key Key) (*Login, error) {
	text, err := k.get(ctx, key)
	if err != nil {
		return nil, err
	}
	return k.open(key, text)
}

// open reads an item, and the sealed file if it names one.
func (k *Keychain) open(key Key, text string) (*Login, error) {
	var it item
	if err := json.Unmarshal([]byte(text), &it); err != nil {
		return nil, &DamagedError{k.itemName(key), "not an item of this program"}
	}
	data := []byte(it.Record)
	if it.File != "" {
		if !isSealedName(it.File, key) {
			return nil, &DamagedError{k.itemName(key), "it names a file that is not its own"}
		}
		sealed, err := private.Read(filepath.Join(k.Dir, it.File), maxFile)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errSealedGone
		}
		if err != nil {
			return nil, k.unavailable(err)
		}
		data, err = unseal(it.Key, sealed, it.File)
		if err != nil {
			return nil, &DamagedError{filepath.Join(k.Dir, it.File), err.Error()}
		}
	}
	login, err := decodeLogin(data)
	if err != nil {
		return nil, &DamagedError{k.itemName(key), err.Error()}
	}
	return login, nil
}

// Save implements [Store].
func (k *Keychain) Save(ctx context.Context, key Key, login *Login) error {
	data, err := login.encode()
	if err != nil {
		return err
	}
	text, err := json.Marshal(item{Record: data})
	if err != nil {
		return err
	}
	file := ""
	if len(text) > k.cap(key) {
		file = sealedName(key)
		fileKey := randomBytes(sealedKeySize)
		if err := k.writeSealed(file, fileKey, data); err != nil {
			return err
		}
		if text, err = json.Marshal(item{File: file, Key: fileKey}); err != nil {
			return err
		}
	}
	if err := k.set(ctx, key, string(text)); err != nil {
		// Whether the item was written is not known when the keychain did not
		// answer, so the new file stays; the next save sweeps it.
		return err
	}
	k.sweep(key, file)
	return nil
}

const sealedSuffix = ".sealed"

// sealedName is a name that no sealed file has had.
func sealedName(key Key) string {
	return key.id() + "-" + hex.EncodeToString(randomBytes(8)) + sealedSuffix
}

// isSealedName reports whether [sealedName] can have made name. What else an item
// says is no file of the login's, wherever a path of that spelling leads.
func isSealedName(name string, key Key) bool {
	random, isSealed := strings.CutSuffix(name, sealedSuffix)
	random, isOwn := strings.CutPrefix(random, key.id()+"-")
	_, err := hex.DecodeString(random)
	return isSealed && isOwn && err == nil && len(random) == 16 && random == strings.ToLower(random)
}

func (k *Keychain) writeSealed(name string, key, data []byte) error {
	sealed, err := seal(key, data, name)
	if err != nil {
		return err
	}
	if err := private.MkdirAll(k.Dir); err != nil {
		return err
	}
	return writeNew(filepath.Join(k.Dir, name), sealed)
}

// writeNew writes a file that must not exist yet, and waits until it is on disk.
func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	private.Give(f)
	_, err = f.Write(data)
	err = errors.Join(err, atomicfile.Sync(f), f.Close())
	if err != nil {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// sweep removes the login's sealed files but the one in use: those that it
// replaced, and those of processes that were killed before their commit.
func (k *Keychain) sweep(key Key, inUse string) {
	for _, path := range k.sealedFiles(key) {
		if filepath.Base(path) != inUse && (inUse == "" || !k.perhapsSaving(key, path)) {
			_ = os.Remove(path)
		}
	}
}

// perhapsSaving reports whether a sealed file may be that of another process
// which has not committed yet: where there are no locks, it did not wait for us.
func (k *Keychain) perhapsSaving(key Key, path string) bool {
	info, err := os.Lstat(path)
	if err != nil || time.Since(info.ModTime()) >= time.Minute {
		return false
	}
	locks, err := private.HasLocks(LoginSlot(filepath.Dir(k.Dir), key).path + ".lock")
	return !locks && err == nil
}

func (k *Keychain) sealedFiles(key Key) []string {
	files, _ := filepath.Glob(filepath.Join(k.Dir, key.id()+"-*"+sealedSuffix))
	return files
}

// Delete implements [Store].
func (k *Keychain) Delete(ctx context.Context, key Key) error {
	err := k.call(ctx, func() error { return keyring.Delete(service, account(key)) })
	if err != nil && !errors.Is(err, keyring.ErrNotFound) {
		return k.unavailable(err)
	}
	if err == nil {
		// A prompt that was dismissed looks like success.
		if _, err := k.get(ctx, key); !errors.Is(err, ErrNotFound) {
			return k.unavailable(errors.Join(errors.New("it kept the item that it was told to delete"), err))
		}
	}
	k.sweep(key, "")
	return nil
}

func (k *Keychain) get(ctx context.Context, key Key) (text string, err error) {
	var answer string // its own variable: an abandoned call may still write it
	for range 3 {
		err = k.call(ctx, func() (err error) {
			answer, err = keyring.Get(service, account(key))
			return err
		})
		if !vanished(err) {
			break
		}
	}
	switch {
	case errors.Is(err, keyring.ErrNotFound):
		return "", ErrNotFound
	case err != nil:
		return "", k.unavailable(err)
	}
	return answer, nil
}

// vanished reports whether a logout came between finding an item and reading it:
// with the Secret Service those are two steps. gnome-keyring says the one while
// it takes the item away and the other when that is done.
func vanished(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "No such interface") || strings.Contains(err.Error(), "Object does not exist at path"))
}

// set writes the item and reads it back: go-keyring reports success when an
// unlock prompt was dismissed and nothing was stored.
func (k *Keychain) set(ctx context.Context, key Key, text string) error {
	if strings.ContainsAny(account(key), "'\"\\\n\r\x00") {
		// On macOS go-keyring writes a command line, quoted for a shell. To
		// security -i, which reads it, a backslash counts in quotes too, and a
		// line break ends the command.
		return fmt.Errorf("%q cannot be the name of a keychain's item", account(key))
	}
	if err := k.call(ctx, func() error { return keyring.Set(service, account(key), text) }); err != nil {
		return k.unavailable(err)
	}
	got, err := k.get(ctx, key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if !bytes.Equal([]byte(got), []byte(text)) {
		return k.unavailable(errDropped)
	}
	return nil
}

var (
	// errSilent is what a keychain that does not answer ends in.
	errSilent  = errors.New("it did not answer in time (locked, with a prompt that nobody answers?)")
	errLate    = errors.New("no time was left to ask it (is this machine very busy?)")
	errDropped = errors.New("it said that it stored the login and did not (was its prompt dismissed?)")
	errNoBus   = errors.New("there is no D-Bus session (a server, a container, sudo or plain SSH?)")
)

// call runs one operation of go-keyring, which knows no deadline. One that
// does not answer is left behind; the process ends soon.
func (k *Keychain) call(ctx context.Context, operation func() error) error {
	if err := reachable(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return errLate
	}
	patience := k.Patience
	if patience == 0 {
		patience = 5 * time.Second
	}
	spent := k.spent.start()
	defer k.spent.stop()
	ctx, cancel := context.WithTimeout(ctx, patience-spent)
	defer cancel()
	if ctx.Err() != nil {
		return errSilent // nothing is begun whose end nobody would see
	}

	done := make(chan error, 1)
	go func() {
		defer crash.Guard()
		done <- operation()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		abandon()
		return errSilent
	}
}

// stopwatch measures for how long at least one of several goroutines was at it.
type stopwatch struct {
	mu      sync.Mutex
	running int
	since   time.Time // the first of those began
	before  time.Duration
}

// start begins and returns what has been measured until now.
func (w *stopwatch) start() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running == 0 {
		w.since = time.Now()
	}
	w.running++
	return w.before + time.Since(w.since)
}

func (w *stopwatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running--
	if w.running == 0 {
		w.before += time.Since(w.since)
	}
}

func (k *Keychain) unavailable(err error) error {
	e := &UnavailableError{Store: KeychainName, Why: err.Error(), Err: err}
	switch {
	case errors.Is(err, keyring.ErrUnsupportedPlatform):
		e.Reason, e.Why = Unsupported, "this platform has none"
	case errors.Is(err, errNoBus):
		e.Reason = NoBus
	case errors.Is(err, errSilent):
		e.Reason = Silent
	case errors.Is(err, errDropped):
		e.Reason = Dropped
	default:
		if why, reason := explain(err); why != "" {
			e.Why, e.Reason = why, reason
		}
	}
	return e
}

// cap is what the login's item may hold on this platform, in bytes.
func (k *Keychain) cap(key Key) int {
	if k.Cap != 0 {
		return k.Cap
	}
	return maxItem(account(key))
}

// macOSCap is what is left for an item where go-keyring hands all of it to
// /usr/bin/security, in one line of at most 4,096 bytes: the account in quotes,
// and the item in base64.
func macOSCap(account string) int {
	line := "add-generic-password -U -s " + service + " -a '" + account + "' -w go-keyring-base64:\n"
	return (4096 - len(line)) / 4 * 3
}
