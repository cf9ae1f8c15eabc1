package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/private"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
)

const program = "docker-credential-dtz"

// machine is what is the same for every registry.
type machine struct {
	World
	options Options
	session *session.Session
	found   []string       // files of our name on PATH
	targets []*target      // known once the settings are read
	places  []config.Login // likewise
}

var machineChecks = []check[*machine]{
	{"user", nil, (*machine).user},
	{"path", nil, (*machine).path},
	{"duplicates", []string{"path"}, (*machine).duplicates},
	{"desktop", []string{"path"}, (*machine).desktop},
	{"settings", nil, (*machine).settings},
	{"environment", []string{"settings"}, (*machine).environment},
	{"docker", nil, (*machine).dockerConfig},
	{"docker-auth", []string{"settings"}, (*machine).dockerAuth},
	{"keychain", []string{"settings"}, (*machine).keychain},
}

func (m *machine) getenv(name string) string {
	value, _ := m.Lookup(name)
	return value
}

// user: sudo makes one root, who has other logins.
func (m *machine) user(context.Context) Finding {
	before := m.getenv("SUDO_USER")
	if before == "" || before == m.getenv("USER") {
		return ok("not by way of sudo")
	}
	remedy := fmt.Sprintf("run Docker and this program as %s, without sudo; membership of the group docker allows it", before)
	if command, ok := quoted("sudo", "usermod", "-aG", "docker", before); ok {
		remedy += ": " + command
	}
	return warning(remedy,
		"run by way of sudo: login, keychain and Docker's configuration are not those of %s", before)
}

// path: Docker finds its helpers on PATH and nowhere else.
func (m *machine) path(context.Context) Finding {
	m.found = m.findAll(m.getenv("PATH"), program)
	if len(m.found) == 0 {
		return failed(m.addToPath(), "%s is not on PATH, where Docker looks for it", program)
	}
	return ok("%s", m.found[0])
}

func (m *machine) addToPath() string {
	dir := filepath.Dir(m.Self)
	word, ok := quoted(dir)
	if m.GOOS == "windows" || !ok {
		return "add " + dir + " to PATH"
	}
	return fmt.Sprintf(`export PATH=%s:"$PATH", in your shell's profile`, word)
}

// findAll returns the files called name that can be run, in the order of PATH,
// each once, however many links lead to it. Docker takes no relative folder.
func (m *machine) findAll(path, name string) []string {
	if m.GOOS == "windows" {
		name += ".exe"
	}
	var found []string
	var seen []os.FileInfo
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, name)
		info, err := os.Stat(file)
		if err != nil || !filepath.IsAbs(dir) || !info.Mode().IsRegular() || m.GOOS != "windows" && info.Mode()&0o111 == 0 {
			continue
		}
		if !slices.ContainsFunc(seen, func(other os.FileInfo) bool { return os.SameFile(info, other) }) {
			found, seen = append(found, file), append(seen, info)
		}
	}
	return found
}

// duplicates: Docker takes the first on PATH, which may be an old one. Only that
// is run, to learn its version: those behind it Docker would not run either.
func (m *machine) duplicates(ctx context.Context) Finding {
	first := m.found[0]
	others := slices.DeleteFunc(m.found[1:], func(other string) bool { return sameContent(first, other) })
	switch {
	case !sameContent(first, m.Self):
		version := "which does not say its version"
		if v := VersionOf(ctx, first); v != "" {
			version = "version " + v
		}
		remedy := m.addToPath()
		if command, ok := quoted(first, "doctor"); ok {
			remedy += "; or ask the other one: " + command
		}
		return failed(remedy,
			"Docker takes %s (%s), and this one is %s (version %s)", first, version, m.Self, m.Version)
	case len(others) > 0:
		return warning("remove what you do not want", "Docker takes %s (version %s, this one); behind it on PATH: %s", first, m.Version, strings.Join(others, ", "))
	}
	return ok("version %s, no other on PATH", m.Version)
}

func sameContent(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	if errA != nil || errB != nil || infoA.Size() != infoB.Size() {
		return false
	}
	if os.SameFile(infoA, infoB) {
		return true
	}
	dataA, errA := os.ReadFile(a)
	dataB, errB := os.ReadFile(b)
	return errA == nil && errB == nil && bytes.Equal(dataA, dataB)
}

// desktop: an editor that was not started from a shell, and the Docker that it
// starts, have another PATH.
func (m *machine) desktop(ctx context.Context) Finding {
	path := DesktopPath(ctx, m.GOOS)
	if path == "" {
		return ok("no programs here with a PATH of their own")
	}
	if found := m.findAll(path, program); len(found) > 0 {
		return ok("programs started without a shell find %s", found[0])
	}
	command, isCommand := quoted("sudo", "ln", "-s", m.found[0], "/usr/local/bin/")
	if !isCommand {
		command = fmt.Sprintf("link %s into /usr/local/bin", m.found[0])
	}
	return warning(command,
		"programs started without a shell, such as an editor, look in %s only, and do not find it there", path)
}

// settings is our own config.json.
func (m *machine) settings(context.Context) Finding {
	if err := m.choose(); err != nil {
		remedy := config.Remedy(err)
		var e *session.Error
		if errors.As(err, &e) && e.Remedy != "" {
			remedy = e.Remedy
		}
		if e != nil {
			return failed(remedy, "%s", e.What)
		}
		return failed(remedy, "%v", err)
	}
	if locks := filepath.Join(m.session.StateDir, "locks"); m.session.StateDir != "" {
		switch has, err := hasLocks(locks); {
		case err != nil:
			return warning("make that folder yours with chown, and writable",
				"processes that renew a login cannot wait for each other: %v", err)
		case !has:
			return warning("let XDG_STATE_HOME name a folder on a disk of this machine",
				"the file system of %s knows no locks, so that processes renew a login side by side", locks)
		}
	}
	path := m.session.ConfigPath
	if _, err := os.Stat(path); path == "" || err != nil {
		return ok("no config.json of ours yet")
	}
	return ok("%s", path)
}

// hasLocks reports whether locks can be had below dir; where there is none, none
// has been wanted yet.
func hasLocks(dir string) (bool, error) {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	path := filepath.Join(dir, "doctor.lock")
	defer os.Remove(path)
	return private.HasLocks(path)
}

// environment: what it holds comes before a login.
func (m *machine) environment(context.Context) Finding {
	set := func(name session.Source) bool { return strings.TrimSpace(m.getenv(string(name))) != "" }
	if set(session.FromAPIKey) && set(session.FromAPIKeyFile) {
		return failed("unset one of them", "DTZ_API_KEY and DTZ_API_KEY_FILE are both set")
	}
	source := m.session.Env.Precedence()
	if _, err := m.session.Env.IdentityURL(); err != nil && source != "" {
		return failed("unset DTZ_IDENTITY_URL, or mend it", "%v", err)
	} else if err != nil {
		return warning("unset DTZ_IDENTITY_URL, or mend it", "%v; a login would fail", err)
	}
	for _, name := range []session.Source{session.FromAPIKey, session.FromAPIKeyFile, session.FromAccessToken} {
		if _, there := m.Lookup(string(name)); there && !set(name) {
			return warning(fmt.Sprintf("unset %s, or fill it", name), "%s is set and empty, and counts as not set", name)
		}
	}
	if source == "" || m.options.Profile != "" {
		return ok("no credential in it")
	}
	for _, t := range m.targets {
		if t.source == source && t.place != nil {
			return warning(fmt.Sprintf("unset %s, if the login is to serve", source),
				"%s takes precedence over the login of profile %s", source, t.place.Profile)
		}
	}
	return ok("%s serves", source)
}
