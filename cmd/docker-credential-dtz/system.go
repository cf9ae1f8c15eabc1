package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/private"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/remote"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// system is all that the program touches outside itself.
type system struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	lookup func(string) (string, bool)
	now    func() time.Time
	// console is made with the command line. nil: neither quiet nor verbose.
	console *console
	// itemCap replaces the keychain's largest item, in bytes, for tests of the
	// other platforms' limits. 0 means this platform's.
	itemCap int
}

const program = "docker-credential-dtz"

// version is set by the linker in a release.
var version = ""

func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

func (sys system) getenv(name string) string {
	value, _ := sys.lookup(name)
	return value
}

// What a keychain may take in all: little while Docker waits, more where a
// person can answer its prompt.
const (
	patienceForDocker = 5 * time.Second
	patienceForPeople = time.Minute
)

// session puts the policy together with the world.
func (sys system) session(patience time.Duration) *session.Session {
	s := sys.newSession(patience)
	sys.traceFolders(s)
	return s
}

func (sys system) traceFolders(s *session.Session) {
	sys.trace("bindings are in %s, secrets and locks below %s", s.ConfigPath, s.StateDir)
}

func (sys system) newSession(patience time.Duration) *session.Session {
	// Without a home folder there is no login, and the environment can still
	// serve; whatever needs the folders says that they are missing.
	configPath, _ := config.Path(sys.getenv)
	stateDir, _ := config.StateDir(sys.getenv)
	keychain := &store.Keychain{Dir: filepath.Join(stateDir, "logins"), Cap: sys.itemCap, Patience: patience}
	file := store.File{Dir: filepath.Join(stateDir, "logins")}
	return &session.Session{
		Env:        session.FromEnv(sys.lookup),
		ConfigPath: configPath,
		StateDir:   stateDir,
		CacheDir:   func() string { return sys.cacheDir(stateDir) },
		Identity:   sys.identity,
		Store: func(name string) (store.Store, error) {
			switch name {
			case store.KeychainName:
				return keychain, nil
			case store.FileName:
				return file, nil
			}
			return nil, fmt.Errorf("no store is called %q, only keychain and file", name)
		},
		Now: sys.now,
	}
}

// cacheDir is where tokens made from an API key of the environment are kept,
// also on a build machine without a home folder.
func (sys system) cacheDir(stateDir string) string {
	var dirs []string
	if stateDir != "" {
		dirs = append(dirs, filepath.Join(stateDir, "apikeys"))
	}
	if dir := sys.getenv("XDG_RUNTIME_DIR"); isMyDir(dir) {
		dirs = append(dirs, filepath.Join(dir, program))
	}
	dirs = append(dirs, filepath.Join(os.TempDir(), program+"-"+strconv.Itoa(os.Getuid())))
	dir, err := store.CacheDir(dirs...)
	if err != nil {
		sys.trace("tokens made from an API key are not kept: %v", err)
		return ""
	}
	return dir
}

// isMyDir reports whether path is a folder of this user's: su and sudo may leave
// the runtime folder of the user before.
func isMyDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir() && filepath.IsAbs(path) && private.Mine(info)
}

func (sys system) identity(baseURL string) (*oauth.Client, error) {
	baseURL, err := oauth.CheckBaseURL(baseURL)
	if err != nil {
		return nil, err
	}
	client, err := sys.httpClient()
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname()
	return &oauth.Client{
		BaseURL:   baseURL,
		HTTP:      client,
		UserAgent: userAgent(),
		Now:       sys.now,
		Source:    host,
	}, nil
}

// remote is the registry at an address, over http where it is on this machine
// and speaks nothing else.
func (sys system) remote(address config.Address) (*remote.Registry, error) {
	client, err := sys.httpClient()
	if err != nil {
		return nil, err
	}
	return &remote.Registry{Address: string(address), HTTP: client, UserAgent: userAgent(), PlainHTTP: true}, nil
}

// httpClient is what every request of ours goes through.
func (sys system) httpClient() (*http.Client, error) {
	roots, err := sys.rootCAs()
	if err != nil {
		return nil, err
	}
	client := oauth.NewHTTPClient(oauth.HTTPOptions{Proxy: http.ProxyFromEnvironment, RootCAs: roots})
	if sys.console != nil && sys.console.verbose {
		client.Transport = tracer{sys, client.Transport}
	}
	return client, nil
}

func userAgent() string {
	return fmt.Sprintf("%s/%s (%s; %s)", program, buildVersion(), runtime.GOOS, runtime.GOARCH)
}

// rootCAs honours SSL_CERT_FILE where crypto/x509 does not by itself: on macOS
// and Windows. nil means the system's.
func (sys system) rootCAs() (*x509.CertPool, error) {
	path := sys.getenv("SSL_CERT_FILE")
	if path == "" || runtime.GOOS != "darwin" && runtime.GOOS != "windows" {
		return nil, nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("SSL_CERT_FILE: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("SSL_CERT_FILE: no certificate in %s", path)
	}
	return pool, nil
}

// newStore is the store of a login that is being made: what DTZ_STORE says.
// optedIn says whether a person has chosen unencrypted storage, now or before;
// without that, file is refused with errNotOptedIn.
func (sys system) newStore(optedIn bool) (string, error) {
	switch name := sys.getenv("DTZ_STORE"); name {
	case "", store.KeychainName:
		return store.KeychainName, nil
	case store.FileName:
		if !optedIn {
			return "", errNotOptedIn
		}
		return store.FileName, nil
	default:
		return "", fmt.Errorf("DTZ_STORE is %q, not keychain or file", oauth.Clean(name))
	}
}

var errNotOptedIn = errors.New("DTZ_STORE=file would keep the login unencrypted, which only you can choose")

const defaultTimeout = 10 * time.Second

// timeout is how long an answer to Docker may take. The note says when
// DTZ_TIMEOUT makes no sense.
func (sys system) timeout() (limit time.Duration, note string) {
	text := sys.getenv("DTZ_TIMEOUT")
	if text == "" {
		return defaultTimeout, ""
	}
	limit, err := time.ParseDuration(text)
	if err != nil || limit <= 0 {
		return defaultTimeout, fmt.Sprintf("DTZ_TIMEOUT=%q is no duration such as 30s; using %v", oauth.Clean(text), defaultTimeout)
	}
	return limit, ""
}
