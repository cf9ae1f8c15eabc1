package tenant

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
)

// CountRepositories is the number of repositories in a context's catalogue.
func (a *Apps) CountRepositories(ctx context.Context, contextID string) (int, error) {
	app, err := a.App(contextID)
	if err != nil {
		return 0, err
	}
	for count, last := 0, ""; ; {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/v2/_catalog?last="+url.QueryEscape(last), nil)
		if err != nil {
			return 0, err
		}
		w := answer{header: http.Header{}}
		app.ServeHTTP(&w, r)
		var page struct{ Repositories []string }
		if w.status != http.StatusOK || json.Unmarshal(w.body, &page) != nil {
			return 0, fmt.Errorf("reading the catalogue: %d %s", w.status, http.StatusText(w.status))
		}
		n := len(page.Repositories)
		count += n
		if n == 0 || w.header.Get("Link") == "" { // the last page (distribution specification, "Listing Repositories")
			return count, nil
		}
		last = page.Repositories[n-1]
	}
}

// answer is an [http.ResponseWriter] that keeps what is written.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (w *answer) Header() http.Header { return w.header }

func (w *answer) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *answer) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.body = append(w.body, p...)
	return len(p), nil
}
