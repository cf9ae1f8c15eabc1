package oauth

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"sync"
)

// Page is what the browser shows at the end of a login: who has logged in, or
// why nobody has. There is no secret in it.
type Page struct {
	User     string // e.g. alice@example.com; may be empty
	Identity string // the identity's id
	Context  string // the context's id
	// Problem is why there is no login; empty if there is one.
	Problem string
	// Remedy is what mends the problem; may be empty.
	Remedy string
}

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
)

// pageTemplate is parsed when a page is shown: the program starts for each of
// Docker's questions, and few of those are logins.
var pageTemplate = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("page.html").Parse(pageHTML))
})

// contentPolicy lets the page have its own style and nothing else: no script,
// no image, no request to anywhere.
func contentPolicy() string {
	style := sha256.Sum256([]byte(pageCSS))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(style[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

func (p Page) render() []byte {
	var page bytes.Buffer
	// It cannot fail: the template is fixed and a Buffer takes everything.
	_ = pageTemplate().Execute(&page, struct {
		Page
		CSS template.CSS
	}{p, template.CSS(pageCSS)})
	return page.Bytes()
}
