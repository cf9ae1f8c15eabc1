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
	// Roles say what they may do in their own context's registry.
	Roles Roles
}

// Roles are role URIs, any of which gives the action it stands beside. At the
// end of a role {context_id} is the profile's own context, in either spelling;
// a role without it has to be held to the letter.
type Roles struct {
	Admin  []string // gives every action; empty means [platform.RegistryRole]
	Pull   []string
	Push   []string
	Delete []string
}

// Authorize returns an [*Error] that names what p lacks for all the actions it
// wants, if it lacks anything. Without an action any of the roles is enough: at
// the base of the API a login is tried. A profile whose context is an
// identifier of another kind may do nothing.
func (policy Policy) Authorize(p *Profile, want ...Action) error {
	_, isContext := platform.ContextID(p.Context)
	isOurs := func(id string) bool { return id == "*" || platform.SameContext(id, p.Context) }
	if !isContext || !slices.ContainsFunc(policy.Contexts, isOurs) {
		return denied(p.Context + " may not use this registry")
	}
	roles := policy.Roles
	if len(roles.Admin) == 0 {
		roles.Admin = []string{platform.RegistryRole}
	}
	if slices.ContainsFunc(roles.Admin, p.Allows) {
		return nil
	}
	if len(want) == 0 {
		all := slices.Concat(roles.Pull, roles.Push, roles.Delete, roles.Admin)
		if slices.ContainsFunc(all, p.Allows) {
			return nil
		}
		return denied("missing role " + alternatives(all, p.Context))
	}
	var missing []string
	for _, action := range want {
		given := roles.giving(action)
		switch {
		case slices.ContainsFunc(given, p.Allows):
		case len(given) == 0: // no other role helps with the rest either
			return denied("missing role " + alternatives(roles.Admin, p.Context))
		default:
			missing = append(missing, alternatives(given, p.Context))
		}
	}
	if missing == nil {
		return nil
	}
	return denied("missing role " + strings.Join(missing, ", and "))
}

// giving is the roles that give an action and not all of them.
func (roles Roles) giving(action Action) []string {
	switch action {
	case ActionPull:
		return roles.Pull
	case ActionPush:
		return roles.Push
	case ActionDelete:
		return roles.Delete
	}
	return nil
}

// maxAlternatives keeps the message short enough for a line and a header.
const maxAlternatives = 3

func alternatives(roles []string, contextID string) string {
	var named []string
	for _, role := range roles[:min(len(roles), maxAlternatives)] {
		named = append(named, platform.RoleFor(role, contextID))
	}
	if len(roles) > maxAlternatives {
		named = append(named, "another")
	}
	return strings.Join(named, " or ")
}
