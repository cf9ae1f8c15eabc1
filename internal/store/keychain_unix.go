//go:build unix && !darwin

package store

import "strings"

// keychainName is what people know it by.
const keychainName = "the keychain (Secret Service)"

// maxItem is what has been measured: 126,000 bytes were fine, slower with size.
func maxItem(string) int { return 100_000 }

// explain knows what go-keyring, godbus and the bus say.
func explain(err error) (why string, reason Reason) {
	switch text := err.Error(); {
	case strings.Contains(text, "org.freedesktop.secrets was not provided"):
		return "no Secret Service runs on the session bus (gnome-keyring, KWallet or KeePassXC provide one)", NoService
	case strings.Contains(text, "failed to unlock correct collection"):
		return "it is locked, and there was no way to ask for its password", Locked
	case strings.HasPrefix(text, "dial "):
		return "DBUS_SESSION_BUS_ADDRESS names a session bus that is gone", NoBus
	}
	return "", OtherReason
}

// abandon has nothing to end: what does not answer ends with this process.
func abandon() {}
