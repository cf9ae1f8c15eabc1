package identity_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
)

func TestAPIKeyMadeAndDeleted(t *testing.T) {
	s := newServer(t)
	bearer := "Authorization: Bearer " + s.issue(work)
	resp := s.do("POST", s.url+identity.BasePath+"/me/identity/apikey", `{"contextId":"`+home+`","alias":"laptop"}`, bearer)
	key := read(t, resp)
	if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") || !regexp.MustCompile(`^apikey-[a-z0-9]{24}$`).MatchString(key) {
		t.Fatalf("making a key = %d %s %q, want a key as plain text", resp.StatusCode, resp.Header.Get("Content-Type"), key)
	}
	exchange := func() (int, string) { return s.call("POST", "/auth/apikey", `{"apiKey":"`+key+`"}`) }
	if status, answer := exchange(); status != 200 || decode(t, answer)["scope"] != home {
		t.Errorf("exchange = %d %s, want 200 in %s", status, answer, home)
	}

	bob, err := s.CreateKey("identity-bob00001", "", "")
	if err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		name   string
		key    string
		header string
		want   int
	}{
		{"deleting it without authentication", key, "X-Other: x", 401},
		{"somebody else deletes it", key, "X-API-KEY: " + bob, 404},
		{"deleting a key that is not there", "apikey-abcdefgh", bearer, 404},
		{"its owner deletes it", key, bearer, 200},
		{"its owner deletes it again", key, bearer, 404},
	}
	for _, step := range steps {
		if status, answer := s.call("DELETE", "/me/identity/apikey/"+step.key, "", step.header); status != step.want || strings.Contains(answer, step.key) {
			t.Errorf("%s = %d %s, want %d and the key not quoted", step.name, status, answer, step.want)
		}
	}
	if status, _ := exchange(); status != 401 {
		t.Errorf("exchange of the deleted key = %d, want 401", status)
	}
}

func TestAPIKeyCanDeleteItself(t *testing.T) {
	s := newServer(t)
	key := s.createKey(work)
	if status, answer := s.call("DELETE", "/me/identity/apikey/"+key, "", basic("apikey", key)); status != 200 {
		t.Errorf("DELETE = %d %s, want 200", status, answer)
	}
}

func TestCreatingAPIKeyIsRefused(t *testing.T) {
	s := newServer(t)
	bearer := "Authorization: Bearer " + s.issue(work)
	tests := []struct {
		name, body, header string
		want               int
	}{
		{"without authentication", `{"contextId":"` + work + `"}`, "X-Other: x", 401},
		{"without a context", `{"alias":"laptop"}`, bearer, 400},
		{"in somebody else's context", `{"contextId":"` + foreign + `"}`, bearer, 403},
	}
	for _, tt := range tests {
		if status, answer := s.call("POST", "/me/identity/apikey", tt.body, tt.header); status != tt.want {
			t.Errorf("%s: %d %s, want %d", tt.name, status, answer, tt.want)
		}
	}
}

func TestAPIKeysOutliveTheService(t *testing.T) {
	var saved []identity.APIKey
	s := newServer(t, func(c *identity.Config) {
		c.SaveAPIKeys = func(keys []identity.APIKey) error { saved = keys; return nil }
	})
	kept, deleted := s.createKey(home), s.createKey(work)
	if err := s.DeleteKey(deleted); err != nil {
		t.Fatal(err)
	}
	for _, k := range saved {
		if strings.Contains(k.Hash+k.Alias, strings.TrimPrefix(kept, "apikey-")) {
			t.Error("the key itself is saved")
		}
	}
	again := newServer(t, func(c *identity.Config) { c.APIKeys = saved })
	for key, want := range map[string]int{kept: 200, deleted: 401} {
		if status, answer := again.call("POST", "/auth/apikey", `{"apiKey":"`+key+`"}`); status != want {
			t.Errorf("exchange after a restart = %d %s, want %d", status, answer, want)
		}
	}
}

func TestAPIKeyThatCannotBeSaved(t *testing.T) {
	var disk error
	s := newServer(t, func(c *identity.Config) {
		c.SaveAPIKeys = func([]identity.APIKey) error { return disk }
	})
	kept := s.createKey(work)
	disk = errors.New("disk full")
	if status, answer := s.call("POST", "/me/identity/apikey", `{"contextId":"`+work+`"}`, "X-API-KEY: "+kept); status != 500 || answer != `{"msg":"internal error"}`+"\n" {
		t.Errorf("making a key = %d %s, want 500 and no more said", status, answer)
	}
	if status, _ := s.call("DELETE", "/me/identity/apikey/"+kept, "", "X-API-KEY: "+kept); status != 500 {
		t.Errorf("deleting a key = %d, want 500", status)
	}
	if status, _ := s.call("POST", "/auth/apikey", `{"apiKey":"`+kept+`"}`); status != 200 {
		t.Errorf("exchange of the key that could not be deleted = %d, want 200", status)
	}
}
