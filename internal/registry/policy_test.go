package registry

import (
	"strings"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
)

func TestPolicy(t *testing.T) {
	const (
		admin   = "https://dtz.rocks/containerregistry/admin/context-abc12345"
		auditor = "https://example.com/auditor/{context_id}"
	)
	tests := []struct {
		name   string
		policy Policy
		roles  []string
		want   string // "" is let in
	}{
		{"nobody said whom to serve", Policy{}, []string{admin}, "context-abc12345 may not use this registry"},
		{"another context", Policy{Contexts: []string{"context-zzz99999"}}, []string{admin}, "context-abc12345 may not use this registry"},
		{"an empty context", Policy{Contexts: []string{""}}, []string{admin}, "context-abc12345 may not use this registry"},
		{"a pattern, which is none", Policy{Contexts: []string{"context-*"}}, []string{admin}, "context-abc12345 may not use this registry"},
		{"this context among others", Policy{Contexts: []string{"context-zzz99999", "context-abc12345"}}, []string{admin}, ""},
		{"this context, in its other spelling", Policy{Contexts: []string{"abc12345"}}, []string{admin}, ""},
		{"every context", Policy{Contexts: []string{"*"}}, []string{admin}, ""},
		{"every context, but no role", Policy{Contexts: []string{"*"}}, nil, "missing role " + admin},
		{"another role, where it is enough", Policy{Contexts: []string{"*"}, Roles: Roles{Admin: []string{auditor}}}, []string{"https://example.com/auditor/abc12345"}, ""},
		{"the second of two roles", Policy{Contexts: []string{"*"}, Roles: Roles{Admin: []string{auditor, admin}}}, []string{admin}, ""},
		{
			"the platform's role, where others are asked for",
			Policy{Contexts: []string{"*"}, Roles: Roles{Admin: []string{auditor, "x"}}},
			[]string{admin},
			"missing role https://example.com/auditor/context-abc12345 or x",
		},
	}
	for _, tt := range tests {
		err := tt.policy.Authorize(&Profile{Context: "context-abc12345", Roles: tt.roles})
		if got := errorText(err); got != tt.want {
			t.Errorf("%s: Authorize() = %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A role or a list of contexts that names an identity or an API key names no
// context, though older tokens leave the kind of the scope to be guessed.
func TestOtherKindsOfTheSameLettersOpenNothing(t *testing.T) {
	const role = "https://dtz.rocks/containerregistry/admin/"
	tests := []struct {
		name   string
		scope  string
		role   string
		policy Policy
	}{
		{"a role for an identity", "abc12345", role + "identity-abc12345", Policy{Contexts: []string{"*"}}},
		{"a role for an API key", "abc12345", role + "apikey-abc12345", Policy{Contexts: []string{"*"}}},
		{"an identity for a scope, with its own role", "identity-abc12345", role + "identity-abc12345", Policy{Contexts: []string{"*"}}},
		{"an identity for a scope, with the context's role", "identity-abc12345", role + "abc12345", Policy{Contexts: []string{"*"}}},
		{"an identity for a scope, with a role of no context", "identity-abc12345", "x", Policy{Contexts: []string{"*"}, Roles: Roles{Admin: []string{"x"}}}},
		{"an identity among the contexts that are served", "abc12345", role + "abc12345", Policy{Contexts: []string{"identity-abc12345"}}},
		{"an identity that is served, and is the scope", "identity-abc12345", role + "identity-abc12345", Policy{Contexts: []string{"identity-abc12345"}}},
	}
	for _, tt := range tests {
		if err := tt.policy.Authorize(&Profile{Context: tt.scope, Roles: []string{tt.role}}); err == nil {
			t.Errorf("%s opens the registry", tt.name)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// rolesByAction has a role of its own for each action.
var rolesByAction = Roles{
	Pull:   []string{"https://example.com/puller/{context_id}"},
	Push:   []string{"https://example.com/pusher/{context_id}"},
	Delete: []string{"https://example.com/deleter/{context_id}"},
}

func TestRolesByAction(t *testing.T) {
	const (
		admin   = "https://dtz.rocks/containerregistry/admin/context-abc12345"
		puller  = "https://example.com/puller/context-abc12345"
		pusher  = "https://example.com/pusher/context-abc12345"
		deleter = "https://example.com/deleter/context-abc12345"
	)
	crowd := Roles{Admin: []string{"boss/{context_id}"}, Pull: []string{"a/{context_id}", "b", "c/{context_id}", "d"}}
	tests := []struct {
		name  string
		roles Roles
		have  []string
		want  []Action
		says  string // "" is let in
	}{
		{"the admin pulls", rolesByAction, []string{admin}, []Action{ActionPull}, ""},
		{"the admin mounts", rolesByAction, []string{admin}, []Action{ActionPush, ActionPull}, ""},
		{"the admin does what nobody knows", rolesByAction, []string{admin}, []Action{ActionAdmin}, ""},
		{"a puller pulls", rolesByAction, []string{puller}, []Action{ActionPull}, ""},
		{"a puller of the other spelling pulls", rolesByAction, []string{"https://example.com/puller/abc12345"}, []Action{ActionPull}, ""},
		{"a puller of another context pulls", rolesByAction, []string{"https://example.com/puller/context-zzz99999"}, []Action{ActionPull}, "missing role " + puller},
		{"a puller pushes", rolesByAction, []string{puller}, []Action{ActionPush}, "missing role " + pusher},
		{"a puller mounts", rolesByAction, []string{puller}, []Action{ActionPush, ActionPull}, "missing role " + pusher},
		{"a pusher mounts", rolesByAction, []string{pusher}, []Action{ActionPush, ActionPull}, "missing role " + puller},
		{"a deleter mounts", rolesByAction, []string{deleter}, []Action{ActionPush, ActionPull}, "missing role " + pusher + ", and " + puller},
		{"who pulls and pushes mounts", rolesByAction, []string{puller, pusher}, []Action{ActionPush, ActionPull}, ""},
		{"who pulls and pushes deletes", rolesByAction, []string{puller, pusher}, []Action{ActionDelete}, "missing role " + deleter},
		{"who may do everything does what nobody knows", rolesByAction, []string{puller, pusher, deleter}, []Action{ActionAdmin}, "missing role " + admin},
		{"an action without a name", rolesByAction, []string{puller, pusher, deleter}, []Action{""}, "missing role " + admin},
		{"a deleter comes to the base", rolesByAction, []string{deleter}, nil, ""},
		{"the admin comes to the base", rolesByAction, []string{admin}, nil, ""},
		{"a puller of another context comes to the base", rolesByAction, []string{"https://example.com/puller/zzz99999"}, nil, "missing role " + puller + " or " + pusher + " or " + deleter + " or another"},
		{"a puller pulls where only admins do", Roles{}, []string{puller}, []Action{ActionPull}, "missing role " + admin},
		{"a puller mounts where only admins push", Roles{Pull: rolesByAction.Pull}, []string{puller}, []Action{ActionPush, ActionPull}, "missing role " + admin},
		{"nobody mounts where only admins push", Roles{Pull: rolesByAction.Pull}, nil, []Action{ActionPull, ActionPush}, "missing role " + admin},
		{"the platform's admin where another is", crowd, []string{admin}, []Action{ActionPush}, "missing role boss/context-abc12345"},
		{"a role without a context, to the letter", crowd, []string{"b"}, []Action{ActionPull}, ""},
		{"a role without a context, with one behind it", crowd, []string{"b/context-abc12345", "bcontext-abc12345"}, []Action{ActionPull}, "missing role a/context-abc12345 or b or c/context-abc12345 or another"},
		{
			"a placeholder in the middle is a letter like another",
			Roles{Pull: []string{"x/{context_id}/y"}},
			[]string{"x/context-abc12345/y"},
			[]Action{ActionPull},
			"missing role x/{context_id}/y",
		},
	}
	for _, tt := range tests {
		for _, scope := range []string{"context-abc12345", "abc12345"} {
			policy := Policy{Contexts: []string{"context-abc12345"}, Roles: tt.roles}
			err := policy.Authorize(&Profile{Context: scope, Roles: tt.have}, tt.want...)
			want := strings.ReplaceAll(tt.says, "context-abc12345", scope)
			if got := errorText(err); got != want {
				t.Errorf("%s: Authorize() = %q, want %q", tt.name, got, want)
			}
		}
	}
}

// Whatever may be done in it, the context is the first wall.
func TestRolesOpenNoOtherContext(t *testing.T) {
	policy := Policy{Contexts: []string{"context-zzz99999"}, Roles: rolesByAction}
	for _, want := range [][]Action{nil, {ActionPull}, {ActionAdmin}} {
		err := policy.Authorize(&Profile{Context: "context-abc12345", Roles: []string{"https://example.com/puller/abc12345", platform.RoleFor(platform.RegistryRole, "abc12345")}}, want...)
		if got := errorText(err); got != "context-abc12345 may not use this registry" {
			t.Errorf("Authorize(%v) = %q", want, got)
		}
	}
}
