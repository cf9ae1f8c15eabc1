package faults

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/zalando/go-keyring"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// errandVariable asks the test binary for something that has to be done in the
// environment of a machine: godbus keeps one connection a process, so a test
// cannot look into several keychains by itself.
const errandVariable = "DTZ_FAULTS_ERRAND"

// errand has it done and returns what there is to say.
func (m *Machine) errand(what ...string) string {
	m.t.Helper()
	out, err := m.tryErrand(what...)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

func (m *Machine) tryErrand(what ...string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(m.environ(), errandVariable+"="+strings.Join(what, " "), "GORACE=atexit_sleep_ms=0")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%q on the machine: %w\n%s", what, err, stderr.Bytes())
	}
	return stdout.String(), nil
}

// runErrand does what the environment asks for, if it asks.
func runErrand() (code int, asked bool) {
	what, asked := os.LookupEnv(errandVariable)
	if !asked {
		return 0, false
	}
	name, argument, _ := strings.Cut(what, " ")
	var err error
	switch name {
	case "age":
		var d time.Duration
		if d, err = time.ParseDuration(argument); err == nil {
			err = eachLogin(func(login *store.Login) bool { return older(login.Tokens, d) })
		}
	case "set-age":
		var d time.Duration
		if d, err = time.ParseDuration(argument); err == nil {
			err = eachLogin(func(login *store.Login) bool { return asOld(login.Tokens, d) })
		}
	case "tokens":
		err = eachLogin(func(login *store.Login) bool { return printTokens(login.Tokens) })
	case "item":
		var text string
		if text, err = keyring.Get(program, "default "+os.Getenv("DTZ_IDENTITY_URL")); err == nil {
			fmt.Println(fingerprint(text))
		} else if errors.Is(err, keyring.ErrNotFound) {
			err = nil
		}
	case "sealed":
		err = sealedInUse()
	default:
		err = errors.New("unknown errand; does TestMain call faults.Main?")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, what, err)
		return 1, true
	}
	return 0, true
}

// places are the logins that this process's environment leads to, and the state
// folder.
func places() ([]config.Login, string, error) {
	path, err := config.Path(os.Getenv)
	if err != nil {
		return nil, "", err
	}
	stateDir, err := config.StateDir(os.Getenv)
	if err != nil {
		return nil, "", err
	}
	conf, err := config.Load(path)
	if err != nil {
		return nil, "", err
	}
	return conf.Logins, stateDir, nil
}

// eachLogin hands every login to f, and what is cached for DTZ_API_KEY as if it
// were one, and saves those that f says it has changed.
func eachLogin(f func(*store.Login) (changed bool)) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	logins, stateDir, err := places()
	if err != nil {
		return err
	}
	for _, place := range logins {
		var st store.Store = store.File{Dir: filepath.Join(stateDir, "logins")}
		if place.Store == store.KeychainName {
			st = &store.Keychain{Dir: filepath.Join(stateDir, "logins"), Patience: 30 * time.Second}
		}
		if err := withLogin(ctx, st, stateDir, store.Key{Identity: place.Identity, Profile: place.Profile}, f); err != nil {
			return err
		}
	}
	key := os.Getenv("DTZ_API_KEY")
	if key == "" {
		return nil
	}
	cache, err := store.NewKeyCache(filepath.Join(stateDir, "apikeys"), secret.String(key), os.Getenv("DTZ_IDENTITY_URL"), os.Getenv("DTZ_CONTEXT_ID"))
	if err != nil {
		return err
	}
	cached := &store.Login{Tokens: []store.Token{cache.Load()}}
	if cached.Tokens[0].Access == "" || !f(cached) {
		return nil
	}
	return cache.Save(cached.Tokens[0])
}

func withLogin(ctx context.Context, st store.Store, stateDir string, key store.Key, f func(*store.Login) bool) error {
	unlock, err := store.LoginSlot(stateDir, key).Lock(ctx, nil)
	if err != nil {
		return err
	}
	defer unlock()
	login, err := st.Load(ctx, key)
	if err != nil || !f(login) {
		return err
	}
	return st.Save(ctx, key, login)
}

func older(tokens []store.Token, d time.Duration) bool {
	for i := range tokens {
		tokens[i].Received = tokens[i].Received.Add(-d)
	}
	return true
}

func asOld(tokens []store.Token, d time.Duration) bool {
	for i := range tokens {
		tokens[i].Received = time.Now().Add(-d)
	}
	return true
}

// printTokens prints context and fingerprint of each token.
func printTokens(tokens []store.Token) bool {
	for _, t := range tokens {
		fmt.Println(t.Context, fingerprint(t.Access.Reveal()))
	}
	return false
}

// fingerprint tells a token from others and does not give it away.
func fingerprint(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:8])
}

// tokens are the kept tokens by context, as fingerprints.
func (m *Machine) tokens() map[string]string {
	m.t.Helper()
	kept := map[string]string{}
	for line := range strings.Lines(m.errand("tokens")) {
		contextID, mark, _ := strings.Cut(strings.TrimSpace(line), " ")
		kept[contextID] = mark
	}
	return kept
}

// sealedInUse prints the names of the sealed files that items of the keychain
// name, a line each.
func sealedInUse() error {
	logins, _, err := places()
	if err != nil {
		return err
	}
	for _, place := range logins {
		if place.Store != store.KeychainName {
			continue
		}
		text, err := keyring.Get(program, place.Profile+" "+place.Identity)
		if err != nil {
			return err
		}
		var item struct{ File string }
		if err := json.Unmarshal([]byte(text), &item); err != nil {
			return err
		}
		if item.File != "" {
			fmt.Println(item.File)
		}
	}
	return nil
}

// Leftovers are the files of the machine that no login, binding or cache needs:
// what a process has left that was killed. Paths are below the machine's folder.
func (m *Machine) Leftovers() []string {
	m.t.Helper()
	var inUse []string
	if sealed, _ := filepath.Glob(filepath.Join(m.StateDir(), "logins", "*.sealed")); len(sealed) != 0 {
		inUse = strings.Fields(m.errand("sealed"))
	}
	var left []string
	for _, root := range []string{m.Home, m.Temp} {
		err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() && !m.needed(path, inUse) {
				name, _ := filepath.Rel(m.main, path)
				left = append(left, name)
			}
			return err
		})
		if err != nil {
			m.t.Fatal(err)
		}
	}
	return left
}

// needed reports whether a file is one that lasts.
func (m *Machine) needed(path string, sealed []string) bool {
	name := filepath.Base(path)
	switch filepath.Dir(path) {
	case filepath.Dir(m.DockerConfig()):
		return name == "config.json"
	case filepath.Dir(m.ConfigPath()):
		return name == "config.json" || name == "config.json.lock" || name == "config.json.lock.holder"
	case filepath.Join(m.StateDir(), "locks"):
		return !strings.HasPrefix(name, ".")
	case filepath.Join(m.StateDir(), "apikeys"):
		return !strings.HasPrefix(name, ".")
	case filepath.Join(m.StateDir(), "logins"):
		return strings.HasSuffix(name, ".json") && !strings.HasPrefix(name, ".") || slices.Contains(sealed, name)
	}
	return false
}
