package registry

import (
	"slices"
	"strings"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
)

// Policy says what a verified profile may do. Its zero value lets nobody in.
type Policy struct {
	// Contexts are the ids of the contexts that may use this registry at all,
	// in either spelling; "*" is every context.
	Contexts []string
	// Roles each give full access to the registry of the profile's context, in
	// place of {context_id}. Empty means [platform.RegistryRole].
	Roles []string
}

// Authorize returns an [*Error] that names what p lacks, if it lacks anything.
// A profile whose context is an identifier of another kind may do nothing.
func (policy Policy) Authorize(p *Profile) error {
	_, isContext := platform.ContextID(p.Context)
	isOurs := func(id string) bool { return id == "*" || platform.SameContext(id, p.Context) }
	if !isContext || !slices.ContainsFunc(policy.Contexts, isOurs) {
		return denied(p.Context + " may not use this registry")
	}
	roles := policy.Roles
	if len(roles) == 0 {
		roles = []string{platform.RegistryRole}
	}
	if slices.ContainsFunc(roles, p.Allows) {
		return nil
	}
	return denied("missing role " + platform.RoleFor(strings.Join(roles, " or "), p.Context))
}
