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

func TestContextID(t *testing.T) {
	const uuid = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
	tests := []struct {
		name string
		id   string
		want string // "" is not a context's id
	}{
		{"with its kind", "context-abc12345", "context-abc12345"},
		{"without its kind", "abc12345", "context-abc12345"},
		{"a UUID in upper case", "3FA85F64-5717-4562-B3FC-2C963F66AFA6", "context-" + uuid},
		{"a UUID in upper case, with its kind", "context-3FA85F64-5717-4562-B3FC-2C963F66AFA6", "context-" + uuid},
		{"upper case where it is no UUID", "context-ABC12345", "context-ABC12345"},
		{"the kind twice", "context-context-abc12345", "context-context-abc12345"},
		{"an identity", "identity-abc12345", ""},
		{"an identity of a context's letters", "identity-context-abc12345", ""},
		{"an API key", "apikey-abc12345", ""},
		{"nothing", "", ""},
		{"a kind and nothing", "context-", ""},
	}
	for _, tt := range tests {
		if got, ok := ContextID(tt.id); got != tt.want || ok != (tt.want != "") {
			t.Errorf("%s: ContextID(%q) = %q, %v, want %q", tt.name, tt.id, got, ok, tt.want)
		}
		for _, other := range tests {
			want := tt.want != "" && tt.want == other.want
			if got := SameContext(tt.id, other.id); got != want {
				t.Errorf("SameContext(%q, %q) = %v, want %v", tt.id, other.id, got, want)
			}
		}
	}
}

func TestIdentityID(t *testing.T) {
	const uuid = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
	tests := []struct {
		name string
		id   string
		want string // "" is not an identity's id
	}{
		{"with its kind", "identity-abc12345", "identity-abc12345"},
		{"without its kind", "abc12345", "identity-abc12345"},
		{"a UUID in upper case", "3FA85F64-5717-4562-B3FC-2C963F66AFA6", "identity-" + uuid},
		{"a context", "context-abc12345", ""},
		{"an API key", "apikey-abc12345", ""},
		{"nothing", "", ""},
	}
	for _, tt := range tests {
		if got, ok := IdentityID(tt.id); got != tt.want || ok != (tt.want != "") {
			t.Errorf("%s: IdentityID(%q) = %q, %v, want %q", tt.name, tt.id, got, ok, tt.want)
		}
	}
}

func TestAPIKey(t *testing.T) {
	const uuid = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
	tests := []struct {
		name string
		key  string
		want string // "" is not an API key
	}{
		{"with its kind", "apikey-abc12345", "apikey-abc12345"},
		{"without its kind", "abc12345", "apikey-abc12345"},
		{"a UUID in upper case", "apikey-3FA85F64-5717-4562-B3FC-2C963F66AFA6", "apikey-" + uuid},
		{"an identity", "identity-abc12345", ""},
		{"nothing", "", ""},
	}
	for _, tt := range tests {
		if got, ok := APIKey(tt.key); got != tt.want || ok != (tt.want != "") {
			t.Errorf("%s: APIKey(%q) = %q, %v, want %q", tt.name, tt.key, got, ok, tt.want)
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
		{"for an identity of the same letters", "https://dtz.rocks/containerregistry/admin/identity-abc12345", false},
		{"for an API key of the same letters", "https://dtz.rocks/containerregistry/admin/apikey-abc12345", false},
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
		for _, id := range []string{context, "abc12345"} {
			if got := HasRole([]string{"other", tt.have}, RegistryRole, id); got != tt.want {
				t.Errorf("%s: HasRole(%q) = %v for %s, want %v", tt.name, tt.have, got, id, tt.want)
			}
		}
	}
	if HasRole([]string{"https://dtz.rocks/containerregistry/admin/identity-abc12345"}, RegistryRole, "identity-abc12345") {
		t.Error("HasRole takes an identity for a context")
	}
	if HasRole([]string{"https://dtz.rocks/containerregistry/admin/"}, RegistryRole, "") {
		t.Error("HasRole gives a role to a token without a context")
	}
	if got, want := RoleFor(RegistryRole, context), tests[0].have; got != want {
		t.Errorf("RoleFor(RegistryRole, %q) = %q, want %q", context, got, want)
	}
}
