package session

import (
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/config"
)

func TestLoginCommand(t *testing.T) {
	own := []config.Address{"127.0.0.1:5000"}
	for _, tt := range []struct {
		name  string
		login LoginCommand
		want  string
	}{
		{"the platform's registry", LoginCommand{Addresses: []config.Address{"cr.dtz.rocks"}, Profile: "default"}, ""},
		{"no registry", LoginCommand{}, ""},
		{"another registry", LoginCommand{Addresses: own}, " --registry 127.0.0.1:5000"},
		{
			"the platform's registry and another",
			LoginCommand{Addresses: []config.Address{"cr.dtz.rocks", "127.0.0.1:5000"}},
			" --registry cr.dtz.rocks --registry 127.0.0.1:5000",
		},
		{"another profile", LoginCommand{Profile: "work"}, " --profile work"},
		{"a profile that docker login made", LoginCommand{Addresses: own, Profile: "127.0.0.1:5000"}, " --registry 127.0.0.1:5000"},
		{
			"kept, in a file",
			LoginCommand{Addresses: own, Profile: "work", Insecure: true, Keep: true},
			" --keep --insecure-storage --registry 127.0.0.1:5000 --profile work",
		},
	} {
		if got, want := tt.login.String(), "docker-credential-dtz login"+tt.want; got != want {
			t.Errorf("%s: %q, want %q", tt.name, got, want)
		}
	}
}
