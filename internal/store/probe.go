package store

import (
	"context"
	"encoding/hex"
)

// Probe finds out whether the keychain keeps what it is given: it writes an
// item, reads it back and deletes it again. The item is none of a login. Its
// failure is an [*UnavailableError].
func (k *Keychain) Probe(ctx context.Context) error {
	// A name of its own, so that two who look at the same time do not delete
	// each other's.
	key := Key{Identity: "a throw-away item of doctor", Profile: "probe-" + hex.EncodeToString(randomBytes(8))}
	if err := k.set(ctx, key, hex.EncodeToString(randomBytes(16))); err != nil {
		return err
	}
	return k.Delete(ctx, key)
}

// Reason is why a keychain is out of reach, for whoever has a remedy for it.
type Reason int

const (
	OtherReason Reason = iota
	NoBus              // there is no D-Bus session, or its address leads nowhere
	NoService          // nobody on the bus keeps secrets
	Locked             // and its password was not given
	Silent             // it did not answer in time
	Dropped            // it reported success and kept nothing: its prompt was dismissed
	Unsupported        // this platform has no keychain
)
