package identity_test

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
)

// openLoginPage goes where a browser without a session is sent, and returns
// the page and the address of its form.
func (s *server) openLoginPage(q url.Values) (resp *http.Response, page, form string) {
	s.t.Helper()
	resp = s.do("GET", s.url+identity.BasePath+"/oauth/authorize?"+q.Encode(), "", "Cookie: dtz-auth=expired")
	read(s.t, resp)
	if resp.StatusCode != http.StatusTemporaryRedirect {
		s.t.Fatalf("authorize without a session = %d, want 307 to the login page", resp.StatusCode)
	}
	resp = s.do("GET", s.url+resp.Header.Get("Location"), "")
	page = read(s.t, resp)
	action := regexp.MustCompile(`action="([^"]*)"`).FindStringSubmatch(page)
	if resp.StatusCode != http.StatusOK || action == nil {
		s.t.Fatalf("login page = %d %s, want 200 and a form", resp.StatusCode, page)
	}
	return resp, page, s.url + html.UnescapeString(action[1])
}

// submit sends the form as a browser at origin does.
func (s *server) submit(form, username, password, origin string) *http.Response {
	s.t.Helper()
	body := url.Values{"username": {username}, "password": {password}}.Encode()
	return s.do("POST", form, body, "Content-Type: application/x-www-form-urlencoded", "Origin: "+origin)
}

func TestLoginPageLeadsBackToTheClient(t *testing.T) {
	s := newServer(t)
	_, _, form := s.openLoginPage(request())
	resp := s.submit(form, "alice", password, s.url)
	read(t, resp)
	if resp.StatusCode != http.StatusSeeOther || len(resp.Cookies()) != 1 {
		t.Fatalf("login = %d with %d cookies, want 303 with one", resp.StatusCode, len(resp.Cookies()))
	}
	cookie := resp.Cookies()[0]
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Name != "dtz-auth" {
		t.Errorf("cookie %v, want dtz-auth, HttpOnly and SameSite=Lax", cookie)
	}
	resp = s.do("GET", s.url+resp.Header.Get("Location"), "", "Cookie: "+cookie.Name+"="+cookie.Value)
	read(t, resp)
	location, err := resp.Location()
	if err != nil || !strings.HasPrefix(location.String(), callback) || location.Query().Get("state") != "s&t=te" {
		t.Fatalf("after the login the browser is sent to %v (%v), want %s with the state", location, err, callback)
	}
	if status, answer := s.redeem(location.Query().Get("code")); status != 200 {
		t.Errorf("redeeming the code = %d %s, want 200", status, answer)
	}
}

func TestLoginPageIsGuarded(t *testing.T) {
	s := newServer(t)
	resp, page, _ := s.openLoginPage(request("state", `"><script>alert(1)</script>`))
	if strings.Contains(page, "<script") {
		t.Errorf("the page takes over what the client sent: %s", page)
	}
	if regexp.MustCompile(`(?i)<script|style=|\son[a-z]+=|https?://[^1]`).MatchString(page) {
		t.Errorf("the page is not static: %s", page)
	}
	policy := resp.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none';", "style-src 'self';", "frame-ancestors 'none';", "base-uri 'none';", "form-action 'self' http://127.0.0.1:50123"} {
		if !strings.Contains(policy, want) {
			t.Errorf("Content-Security-Policy %q, want %q in it", policy, want)
		}
	}
	if resp := s.do("GET", s.url+"/login.css", ""); !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/css") || !strings.Contains(read(t, resp), "light dark") {
		t.Error("there is no style for light and dark")
	}
	if resp := s.do("GET", s.url+"/login?"+request("redirect_uri", "https://evil.example.com/").Encode(), ""); resp.StatusCode != 400 {
		t.Errorf("login page for a stranger's client = %d, want 400", resp.StatusCode)
	}
}

func TestLoginFormIsRefused(t *testing.T) {
	s := newServer(t)
	_, _, form := s.openLoginPage(request())
	tests := []struct {
		name               string
		username, password string
		origin             string
		fetchSite          string
		want               int
	}{
		{"the user", "alice", password, s.url, "same-origin", 303},
		{"a browser that says only Origin", "alice", password, s.url, "", 303},
		{"another password", "alice", "wrong", s.url, "same-origin", 403},
		{"an unknown user", "carol", password, s.url, "same-origin", 403},
		{"another site's page", "alice", password, "https://evil.example.com", "cross-site", 403},
		{"another site's page in an old browser", "alice", password, "https://evil.example.com", "", 403},
		{"a page at another port of this machine", "alice", password, "http://127.0.0.1:1", "same-site", 403},
		{"a page without an origin", "alice", password, "null", "", 403},
	}
	for _, tt := range tests {
		header := []string{"Content-Type: application/x-www-form-urlencoded", "Origin: " + tt.origin}
		if tt.fetchSite != "" {
			header = append(header, "Sec-Fetch-Site: "+tt.fetchSite)
		}
		resp := s.do("POST", form, url.Values{"username": {tt.username}, "password": {tt.password}}.Encode(), header...)
		body := read(t, resp)
		if resp.StatusCode != tt.want || (len(resp.Cookies()) > 0) != (tt.want == 303) {
			t.Errorf("%s: %d with %d cookies, want %d", tt.name, resp.StatusCode, len(resp.Cookies()), tt.want)
		}
		if strings.Contains(body, tt.password) {
			t.Errorf("%s: the answer quotes the password: %s", tt.name, body)
		}
	}
	resp := s.submit(form, "alice", "wrong", s.url)
	if page := read(t, resp); !strings.Contains(page, `role="alert"`) || !strings.Contains(page, `aria-describedby="problem"`) {
		t.Errorf("after a wrong password the page does not say so to everybody: %s", page)
	}
}
