package main

import (
	"net/http"
	"net/url"
	"strings"
	"time"
)

// tracer tells of each request under --verbose. Of the URL it shows what holds
// no secret, of the answer its status, of headers, bodies and errors nothing:
// they may quote what was sent.
type tracer struct {
	sys  system
	next http.RoundTripper
}

func (t tracer) RoundTrip(req *http.Request) (*http.Response, error) {
	began := time.Now()
	resp, err := t.next.RoundTrip(req)
	took := time.Since(began).Round(time.Millisecond)
	if err != nil {
		t.sys.trace("%s %s: no answer, %v", req.Method, shownURL(req.URL), took)
		return nil, err
	}
	t.sys.trace("%s %s: %d, %v", req.Method, shownURL(req.URL), resp.StatusCode, took)
	return resp, nil
}

// shownURL is scheme, host and path of a URL, without the API key that deleting
// it puts into the path.
func shownURL(u *url.URL) string {
	const keys = "/me/identity/apikey/"
	path := u.EscapedPath()
	if before, _, found := strings.Cut(path, keys); found {
		path = before + keys + "[redacted]"
	}
	return u.Scheme + "://" + u.Host + path
}
