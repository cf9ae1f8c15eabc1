package tenant

import (
	"errors"
	"regexp"
	"strings"
)

// errNoContextID does not quote the id, which comes from a token.
var errNoContextID = errors.New("the token's scope is not a context id")

var (
	// Upper case is left out because file systems may ignore the difference.
	bareID = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)
	uuid   = regexp.MustCompile(`^(?i:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$`)
)

// CanonicalID is the one spelling of a context's id that stands for the
// context here: context-… in lower case. It can be part of a path. Ids of other
// shapes and of other kinds, like identity-…, are an error.
func CanonicalID(contextID string) (string, error) {
	bare, hasKind := strings.CutPrefix(contextID, "context-")
	if uuid.MatchString(bare) {
		bare = strings.ToLower(bare)
	}
	isOther := !hasKind && (strings.HasPrefix(bare, "identity-") || strings.HasPrefix(bare, "apikey-"))
	if isOther || !bareID.MatchString(bare) {
		return "", errNoContextID
	}
	return "context-" + bare, nil
}
