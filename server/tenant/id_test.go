package tenant_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/server/tenant"
)

var ids = []struct {
	name string
	id   string
	want string // "" means an error
}{
	{"eight characters", "context-abc12345", "context-abc12345"},
	{"in the old spelling", "abc12345", "context-abc12345"},
	{"twenty-four characters", "context-abcdefghijkl012345678901", "context-abcdefghijkl012345678901"},
	{"a UUID", "context-3fa85f64-5717-4562-b3fc-2c963f66afa6", "context-3fa85f64-5717-4562-b3fc-2c963f66afa6"},
	{"a UUID in the old spelling", "3fa85f64-5717-4562-b3fc-2c963f66afa6", "context-3fa85f64-5717-4562-b3fc-2c963f66afa6"},
	{"a UUID in upper case", "3FA85F64-5717-4562-B3FC-2C963F66AFA6", "context-3fa85f64-5717-4562-b3fc-2c963f66afa6"},
	{"the kind twice", "context-context-abc12345", "context-context-abc12345"},
	{"upper case where it is no UUID", "context-ABC12345", ""},
	{"nothing", "", ""},
	{"a kind and nothing", "context-", ""},
	{"an identity", "identity-abc12345", ""},
	{"an API key", "apikey-abc12345", ""},
	{"a path to the parent", "..", ""},
	{"a path to the parent with the kind", "context-..", ""},
	{"a path to a neighbour", "context-abc12345/../context-zzz99999", ""},
	{"a slash", "context-abc/12345", ""},
	{"a backslash", `context-abc\12345`, ""},
	{"an absolute path", "/etc", ""},
	{"a dot", "context-abc.12345", ""},
	{"a null byte", "context-abc12345\x00", ""},
	{"a line break", "context-abc12345\n", ""},
	{"a hyphen in front", "context--abc12345", ""},
	{"the letter K as a sign for kelvin", "context-abc1234\u212a", ""},
	{"65 characters", "context-" + strings.Repeat("a", 65), ""},
	{"64 characters", "context-" + strings.Repeat("a", 64), "context-" + strings.Repeat("a", 64)},
}

func TestCanonicalID(t *testing.T) {
	for _, tt := range ids {
		got, err := tenant.CanonicalID(tt.id)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: CanonicalID(%q) = %q, %v, want %q", tt.name, tt.id, got, err, tt.want)
		}
		if err != nil && tt.id != "" && strings.Contains(err.Error(), tt.id) {
			t.Errorf("%s: the error quotes the id: %v", tt.name, err)
		}
	}
}

func FuzzCanonicalID(f *testing.F) {
	for _, tt := range ids {
		f.Add(tt.id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		got, err := tenant.CanonicalID(id)
		if err != nil {
			return
		}
		if again, err := tenant.CanonicalID(got); again != got || err != nil {
			t.Errorf("CanonicalID(%q) = %q, but of that %q, %v", id, got, again, err)
		}
		if filepath.Base(got) != got || !filepath.IsLocal(got) || !platform.SameContext(id, got) {
			t.Errorf("CanonicalID(%q) = %q, which is no name for it in a folder", id, got)
		}
	})
}
