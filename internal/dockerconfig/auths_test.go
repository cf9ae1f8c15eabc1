package dockerconfig

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSecrets(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config string
		want   []string
		err    string // part of it
	}{
		{"nothing", "", nil, ""},
		{"no auths", `{"credHelpers": {"a": "dtz"}}`, nil, ""},
		{"what docker login leaves where it has a helper", `{"auths": {"a": {}, "b": {"auth": ""}, "c": {"email": "me"}, "d": null}}`, nil, ""},
		{
			"each kind of secret", `{"auths": {"d": {"registrytoken": "s"}, "c": {"identitytoken": "s"}, "b": {"password": "s"}, "a": {"auth": "s"}}}`,
			[]string{"a", "b", "c", "d"},
			"",
		},
		{"names that Docker takes, too", `{"AUTHS": {"a": {"Auth": "s"}}}`, []string{"a"}, ""},
		{"a text where an object should be", `{"auths": {"a": "canary"}}`, nil, "auths is not an object of credentials"},
		{"a number where a secret should be", `{"auths": {"a": {"auth": 12345678}}}`, nil, "auths is not an object of credentials"},
		{"no JSON", "{\n \"auths\": canary}", nil, "(line 2)"},
	} {
		path := filepath.Join(t.TempDir(), "config.json")
		if err := os.WriteFile(path, []byte(tt.config), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := File{path}.Secrets()
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: Secrets = %q, want %q", tt.name, got, tt.want)
		}
		switch {
		case tt.err == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), path)):
			t.Errorf("%s: error %v, want %q and the file", tt.name, err, tt.err)
		case err != nil && (strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "12345678")):
			t.Errorf("%s: %v quotes a secret", tt.name, err)
		}
	}
	if got, err := (File{filepath.Join(t.TempDir(), "absent")}).Secrets(); got != nil || err != nil {
		t.Errorf("no file: Secrets = %q, %v", got, err)
	}
}
