// Package platform states what every part of this product knows of the
// DownToZero platform: its addresses, its identifiers and their two spellings,
// and the registry's role.
package platform

import "strings"

const (
	// IdentityURL is the base of the identity service's API.
	IdentityURL = "https://identity.dtz.rocks/api/2021-02-21"
	// RegistryHost is the container registry, on every port.
	RegistryHost = "cr.dtz.rocks"
	// Issuer is the claims iss and aud of every token of the platform.
	Issuer = "dtz.rocks"
	// RegistryRole is the role that gives full access to one context's
	// registry, with the context's id in place of {context_id}.
	RegistryRole = "https://dtz.rocks/containerregistry/admin/{context_id}"
)

// contextPlaceholder stands for the token's own context in a role.
const contextPlaceholder = "{context_id}"

const (
	contextKind  = "context-"
	identityKind = "identity-"
	apiKeyKind   = "apikey-"
)

// ContextID returns the one spelling of a context's id that stands for the
// context: with its kind in front, and a UUID in lower case. In older tokens
// it is bare. An identifier of another kind, or none at all, is not ok.
func ContextID(id string) (canonical string, ok bool) {
	return canonicalID(contextKind, id)
}

// IdentityID is to identities what [ContextID] is to contexts.
func IdentityID(id string) (canonical string, ok bool) {
	return canonicalID(identityKind, id)
}

// APIKey is to API keys what [ContextID] is to contexts.
func APIKey(key string) (canonical string, ok bool) {
	return canonicalID(apiKeyKind, key)
}

func canonicalID(wanted, id string) (canonical string, ok bool) {
	kind, bare := splitID(id)
	if bare == "" || kind != "" && kind != wanted {
		return "", false
	}
	return wanted + bare, true
}

// SameContext reports whether a and b are ids of one context.
func SameContext(a, b string) bool {
	canonicalA, okA := ContextID(a)
	canonicalB, okB := ContextID(b)
	return okA && okB && canonicalA == canonicalB
}

// SameID reports whether a and b name one thing, where its kind is known from
// elsewhere. For contexts there is [SameContext]: here abc12345 is the same as
// context-abc12345 and as identity-abc12345, though those two differ.
func SameID(a, b string) bool {
	kindA, bareA := splitID(a)
	kindB, bareB := splitID(b)
	return bareA != "" && bareA == bareB && (kindA == kindB || kindA == "" || kindB == "")
}

// splitID parts an identifier into its kind, if it is spelled with one, and
// the rest, a UUID in lower case.
func splitID(id string) (kind, bare string) {
	for _, k := range []string{contextKind, identityKind, apiKeyKind} {
		if rest, found := strings.CutPrefix(id, k); found {
			kind, id = k, rest
			break
		}
	}
	if isUUID(id) {
		id = strings.ToLower(id)
	}
	return kind, id
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
			continue
		}
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}

// RoleFor is the role with contextID in place of {context_id} at its end.
func RoleFor(role, contextID string) string {
	prefix, isForContext := strings.CutSuffix(role, contextPlaceholder)
	if !isForContext {
		return role
	}
	return prefix + contextID
}

// HasRole reports whether roles hold role for contextID, in either spelling of
// the id. An id of another kind is not the context's. Everything before the id
// has to be equal to the letter.
func HasRole(roles []string, role, contextID string) bool {
	prefix, isForContext := strings.CutSuffix(role, contextPlaceholder)
	for _, have := range roles {
		if !isForContext {
			if have == role {
				return true
			}
			continue
		}
		if id, found := strings.CutPrefix(have, prefix); found && SameContext(id, contextID) {
			return true
		}
	}
	return false
}
