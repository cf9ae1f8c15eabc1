package dockerconfig

import (
	"strings"
	"testing"
)

func TestMasked(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"no file", "", ""},
		{
			"every secret that Docker keeps",
			"{\n\t\"auths\": {\n\t\t\"ghcr.io\": {\"auth\": \"c4nary\", \"password\": \"c4nary\",\n\t\t\t\"identitytoken\": \"c4nary\", \"registrytoken\" : \"c4nary\"}\n\t}\n}\n",
			"{\n\t\"auths\": {\n\t\t\"ghcr.io\": {\"auth\": \"…\", \"password\": \"…\",\n\t\t\t\"identitytoken\": \"…\", \"registrytoken\" : \"…\"}\n\t}\n}\n",
		},
		{
			"headers, proxies and what nobody knows yet",
			`{"HttpHeaders": {"Authorization": "c4nary"}, "proxies": {"default": {"httpProxy": "http://u:c4nary@p"}}, "x": [["c4nary"], 1, true, null]}`,
			`{"HttpHeaders": {"Authorization": "…"}, "proxies": {"default": {"httpProxy": "…"}}, "x": [["…"], 1, true, null]}`,
		},
		{"helpers are what is shown", `{"credHelpers": {"a": "pass"}, "x": {"credHelpers": {"a": "c4nary"}}}`, `{"credHelpers": {"a": "pass"}, "x": {"credHelpers": {"a": "…"}}}`},
		{
			"who it is for, in the name of a member",
			`{"auths": {"https://bob:c4nary@reg.example/v1/": {"auth": "c4nary"}}, "credHelpers": {"c4nary@a": "pass"}, "c4\u006eary\u0040p": [{"c4nary@@b": 1}]}`,
			`{"auths": {"…@reg.example/v1/": {"auth": "…"}}, "credHelpers": {"…@a": "pass"}, "…@p": [{"…@b": 1}]}`,
		},
		{"what cannot be parsed", `{"auths": "c4nary", }`, ""},
	}
	for _, tt := range tests {
		got := string(Masked([]byte(tt.in)))
		if got != tt.want {
			t.Errorf("%s: Masked(%q) = %q, want %q", tt.name, tt.in, got, tt.want)
		}
		if strings.Contains(got, "c4nary") || strings.Count(got, "\n") != strings.Count(tt.in, "\n") {
			t.Errorf("%s: Masked(%q) = %q", tt.name, tt.in, got)
		}
	}
}
