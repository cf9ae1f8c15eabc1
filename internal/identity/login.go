package identity

import (
	_ "embed"
	"html/template"
	"io"
	"net/http"
	"strings"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

var (
	//go:embed login.html
	loginHTML string
	//go:embed login.css
	loginCSS string

	loginTemplate = template.Must(template.New("login.html").Parse(loginHTML))
)

// loginPage asks the user of a browser on the way to a client who he is. Its
// query is that of the authorization request.
func (s *Service) loginPage(w http.ResponseWriter, r *http.Request) error {
	a, err := s.parseAuthorization(r.URL.Query())
	if err != nil {
		return err
	}
	return showLogin(w, r, a, http.StatusOK, "")
}

// login takes the form of the login page and goes on with the authorization.
func (s *Service) login(w http.ResponseWriter, r *http.Request) error {
	// Nobody else's page may log its visitor in (RFC 6749 §10.12). Programs
	// that are no browsers send neither Sec-Fetch-Site nor Origin.
	if err := s.crossOrigin.Check(r); err != nil {
		return refuse(http.StatusForbidden, "this form was sent by another site")
	}
	a, err := s.parseAuthorization(r.URL.Query())
	if err != nil {
		return err
	}
	if err := r.ParseForm(); err != nil {
		return unreadable(err)
	}
	u, err := s.checkPassword(r.PostForm.Get("username"), secret.String(r.PostForm.Get("password")))
	if err != nil {
		return showLogin(w, r, a, http.StatusForbidden, "Wrong user name or password.")
	}
	token, _, err := s.sign(u, u.Contexts[0])
	if err != nil {
		return err
	}
	http.SetCookie(w, &http.Cookie{
		Name:     sessionCookie,
		Value:    token,
		Path:     "/",
		MaxAge:   int(s.lifetime.Seconds()),
		HttpOnly: true,
		Secure:   r.TLS != nil,
		SameSite: http.SameSiteLaxMode, // the client's browser window starts at another site
	})
	w.Header().Set("Cache-Control", "no-store")
	http.Redirect(w, r, BasePath+"/oauth/authorize?"+r.URL.Query().Encode(), http.StatusSeeOther)
	return nil
}

func showLogin(w http.ResponseWriter, r *http.Request, a authorization, status int, problem string) error {
	var page strings.Builder
	err := loginTemplate.Execute(&page, struct{ Action, Problem string }{"/login?" + r.URL.Query().Encode(), problem})
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	// no-referrer would make browsers say "Origin: null" when the form is sent.
	h.Set("Referrer-Policy", "same-origin")
	// Browsers hold form-action against the redirects that follow, too.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; "+
		"form-action 'self' "+a.redirectURI.Scheme+"://"+a.redirectURI.Host)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, page.String())
	return nil
}

func (s *Service) loginStyle(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = io.WriteString(w, loginCSS)
	return nil
}
