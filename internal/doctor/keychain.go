package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// keychain writes, reads and deletes an item, where logins lie in the keychain
// or the first one would.
func (m *machine) keychain(ctx context.Context) Finding {
	inKeychain := func(p config.Login) bool { return p.Store == store.KeychainName }
	switch {
	case !slices.ContainsFunc(m.places, inKeychain) && len(m.places) > 0:
		return skipped("no login lies in it")
	case len(m.places) == 0 && m.session.Env.Precedence() != "":
		return skipped("no login is needed")
	case len(m.places) == 0 && m.getenv("DTZ_STORE") == store.FileName:
		return skipped("DTZ_STORE is file")
	}
	kept, err := m.session.Store(store.KeychainName)
	if err != nil {
		return failed("", "%v", err)
	}
	var away *store.UnavailableError
	switch err := kept.(*store.Keychain).Probe(ctx); {
	case errors.As(err, &away):
		return failed(m.keychainRemedy(away.Reason), "out of reach: %s", away.Why)
	case err != nil:
		return failed("", "%v", err)
	}
	return ok("an item was written, read and deleted")
}

// keychainRemedy is what helps against a keychain that is out of reach, for the
// reason given. Over SSH there is nobody in front of its prompt.
func (m *machine) keychainRemedy(reason store.Reason) string {
	const without = "set DTZ_API_KEY, or run \"" + program + " login --insecure-storage\""
	remote := m.getenv("SSH_CONNECTION") != ""
	unlock := unlockCommands[m.GOOS]
	switch reason {
	case store.NoBus:
		if user := m.getenv("SUDO_USER"); user != "" {
			return fmt.Sprintf("run it as %s, without sudo; else %s", user, without)
		}
		return "where no desktop runs there is no keychain: " + without
	case store.NoService:
		return "install and start one, e.g. gnome-keyring; else " + without
	case store.Locked, store.Silent:
		switch {
		case m.GOOS == "darwin":
			return unlock
		case remote && unlock != "":
			return fmt.Sprintf("nobody sees its prompt over SSH; unlock gnome-keyring here: %s; else %s", unlock, without)
		default:
			return "answer its prompt on the desktop, and look again; else " + without
		}
	case store.Dropped:
		return fmt.Sprintf("answer its prompt instead of closing it, and run %q again", program+" doctor")
	}
	return without
}

// unlockCommands ask for the keychain's password at the terminal, by operating
// system.
var unlockCommands = map[string]string{
	"darwin": "security unlock-keychain",
	"linux":  strings.Join([]string{`read -rsp "Keychain password: " p`, `printf %s "$p" | gnome-keyring-daemon --replace --unlock`}, " && "),
}
