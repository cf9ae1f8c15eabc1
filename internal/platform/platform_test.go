package platform

import "testing"

func TestSameID(t *testing.T) {
	const uuid = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
	tests := []struct {
		name string
		a, b string
		want bool
	}{
		{"the same letters", "context-abc12345", "context-abc12345", true},
		{"with and without its kind", "context-abc12345", "abc12345", true},
		{"a UUID with and without its kind", "context-" + uuid, uuid, true},
		{"a UUID in the other case", "3FA85F64-5717-4562-B3FC-2C963F66AFA6", uuid, true},
		{"other letters", "context-abc12345", "context-abc12346", false},
		{"another case where it is no UUID", "context-ABC12345", "context-abc12345", false},
		{"a prefix", "context-abc1234", "context-abc12345", false},
		{"another kind of the same letters", "identity-abc12345", "context-abc12345", false},
		{"the kind twice", "context-context-abc12345", "abc12345", false},
		{"empty on one side", "", "context-abc12345", false},
		{"empty on both sides names nothing", "", "", false},
		{"a kind without an id names nothing", "context-", "context-", false},
	}
	for _, tt := range tests {
		if got := SameID(tt.a, tt.b); got != tt.want {
			t.Errorf("%s: SameID(%q, %q) = %v, want %v", tt.name, tt.a, tt.b, got, tt.want)
		}
	}
}

func TestHasRole(t *testing.T) {
	const context = "context-abc12345"
	tests := []struct {
		name string
		have string
		want bool
	}{
		{"the role", "https://dtz.rocks/containerregistry/admin/context-abc12345", true},
		{"its other spelling", "https://dtz.rocks/containerregistry/admin/abc12345", true},
		{"for another context", "https://dtz.rocks/containerregistry/admin/context-zzz99999", false},
		{"another service", "https://dtz.rocks/containers/admin/context-abc12345", false},
		{"something before it", "xhttps://dtz.rocks/containerregistry/admin/context-abc12345", false},
		{"something behind it", "https://dtz.rocks/containerregistry/admin/context-abc12345/x", false},
		{"a slash behind it", "https://dtz.rocks/containerregistry/admin/context-abc12345/", false},
		{"a space behind it", "https://dtz.rocks/containerregistry/admin/context-abc12345 ", false},
		{"another scheme", "http://dtz.rocks/containerregistry/admin/context-abc12345", false},
		{"upper case", "https://DTZ.rocks/containerregistry/admin/context-abc12345", false},
		{"the placeholder itself", RegistryRole, false},
		{"no context at all", "https://dtz.rocks/containerregistry/admin/", false},
	}
	for _, tt := range tests {
		if got := HasRole([]string{"other", tt.have}, RegistryRole, context); got != tt.want {
			t.Errorf("%s: HasRole(%q) = %v, want %v", tt.name, tt.have, got, tt.want)
		}
	}
	if HasRole([]string{"https://dtz.rocks/containerregistry/admin/"}, RegistryRole, "") {
		t.Error("HasRole gives a role to a token without a context")
	}
	if got, want := RoleFor(RegistryRole, context), tests[0].have; got != want {
		t.Errorf("RoleFor(RegistryRole, %q) = %q, want %q", context, got, want)
	}
}
