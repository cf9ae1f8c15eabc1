package tenant

import (
	"errors"
	"regexp"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
)

// errNoContextID does not quote the id, which may come from a token.
var errNoContextID = errors.New("not a context id")

// Upper case is left out because file systems may ignore the difference.
var folderName = regexp.MustCompile(`^context-[a-z0-9][a-z0-9-]{0,63}$`)

// CanonicalID returns [platform.ContextID], if that can be the name of a
// folder. Anything else is an error.
func CanonicalID(contextID string) (string, error) {
	id, ok := platform.ContextID(contextID)
	if !ok || !folderName.MatchString(id) {
		return "", errNoContextID
	}
	return id, nil
}
