package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode"
)

// Whatever a record, a path or a token holds, a report of it is lines of text.
func TestStatusShowsNoControlCharacters(t *testing.T) {
	const hostile = "a\x1b[2J\u202e\r\nb"
	no := false
	later := time.Unix(1<<33, 0)
	registry := registryReport{
		Address: hostile, State: usable, Source: "login", Identity: hostile, Profile: hostile,
		Subject: hostile, Context: hostile, OwnContext: true, RegistryRole: &no, APIKeyFile: hostile,
		Where: []string{hostile}, Notes: []string{hostile}, Error: hostile,
		user: hostile, expires: &later, remedy: hostile,
	}
	outside, refused := registry, registry
	outside.Source = "DTZ_ACCESS_TOKEN"
	refused.State = hostile
	login := loginReport{
		Profile: hostile, Identity: hostile, State: usable, User: hostile, Subject: hostile, Method: hostile,
		Context: hostile, Where: []string{hostile}, Expires: &later, Registries: []string{hostile},
		OwnContexts: map[string]string{hostile: hostile}, Notes: []string{hostile}, Error: hostile, remedy: hostile,
	}
	expired := login
	expired.State, expired.code = hostile, exitEnded
	for _, tt := range []struct {
		name    string
		report  report
		profile string
	}{
		{"a registry that a login serves", report{Registries: []registryReport{registry}}, ""},
		{"a registry that the environment serves", report{Registries: []registryReport{outside}}, ""},
		{"a registry that nothing serves", report{Registries: []registryReport{refused}}, ""},
		{"a login", report{Logins: []loginReport{login}}, ""},
		{"a login that has ended", report{Logins: []loginReport{expired}}, ""},
		{"no login", report{}, hostile},
	} {
		var out bytes.Buffer
		sys := system{stdout: &out, now: time.Now, lookup: func(string) (string, bool) { return "", false }}
		sys.printStatus(&tt.report, tt.profile)
		for line := range strings.Lines(out.String()) {
			text := strings.TrimSuffix(line, "\n")
			if strings.ContainsFunc(text, func(r rune) bool { return unicode.Is(unicode.C, r) }) || strings.HasPrefix(text, "b") {
				t.Errorf("%s: a line is %q", tt.name, text)
			}
		}
		if !strings.Contains(out.String(), "a [2J") && tt.profile == "" {
			t.Errorf("%s: shows nothing of what it is about: %q", tt.name, &out)
		}
	}
}
