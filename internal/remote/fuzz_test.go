package remote

import (
	"encoding/base64"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// What people are shown of a registry's answer, whatever it is. In body and
// kind, TOKEN and BASIC stand for what was sent.
func FuzzRegistryAnswer(f *testing.F) {
	basic := base64.StdEncoding.EncodeToString([]byte("bearer:" + canary.Reveal()))
	for _, body := range []string{
		`{"errors":[{"code":"DENIED","message":"no role"}]}`, `{"errors":[{"code":"\u001b[31m","message":"a\u202eb\nc"}]}`,
		`{"errors":[{"code":"TOKEN","message":"BASIC"}]}`, `{"errors":[]}`, `{"errors":{}}`, `{"msg":"TOKEN"}`, `{"msg":5}`,
		`{"imageCount":3,"serverUrl":"cr.dtz.rocks:3214"}`, `{"imageCount":1e300,"serverUrl":"\u009b31m"}`, `{"imageCount":-1e300}`,
		strings.Repeat("[", 100_000), `{"msg":"` + strings.Repeat("a", 64<<10) + `"}`, `{"msg":"T` + "\x1b" + `OKEN"}`, "\xff\x00", "", "<html>",
		`{"imageCount":1,"imageCount":2,"IMAGECOUNT":3}`,
	} {
		for _, status := range []int{200, 302, 401, 403, 503} {
			f.Add(status, "application/json", body)
		}
	}
	f.Add(200, "text/html; charset=\x1b[31m", "TOKEN")
	f.Fuzz(func(t *testing.T, status int, kind, body string) {
		if status < 200 || status > 599 {
			return // net/http makes an error of others
		}
		told := strings.NewReplacer("TOKEN", canary.Reveal(), "BASIC", basic)
		r := &Registry{Address: "cr.example:5000", HTTP: &http.Client{Transport: roundTrip(func(req *http.Request) (*http.Response, error) {
			return &http.Response{
				StatusCode: status, Header: http.Header{"Content-Type": {told.Replace(kind)}, "Www-Authenticate": {told.Replace(kind)}},
				Body: io.NopCloser(strings.NewReader(told.Replace(body))), Request: req,
			}, nil
		})}}
		check := func(call string, err error, sent ...string) bool {
			if err == nil {
				if status/100 != 2 {
					t.Errorf("%s: %d is taken for an answer", call, status)
				}
				return true
			}
			e := asError(t, err)
			text := e.Error() + " " + e.Code
			if !utf8.ValidString(text) || utf8.RuneCountInString(text) > 600 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsGraphic(r) }) {
				t.Errorf("%s: error %q, want one line to be shown", call, text)
			}
			if slices.ContainsFunc(sent, func(s string) bool { return strings.Contains(text, s) }) {
				t.Errorf("%s: error %q holds what was sent", call, text)
			}
			if e.Refused() != (status == 401) || e.Denied() != (status == 403) || e.Unreachable() != (status == 429 || status >= 500) {
				t.Errorf("%s: %d is %+v", call, status, *e)
			}
			return false
		}
		check("Check", r.Check(t.Context(), "bearer", canary), canary.Reveal(), basic)
		stats, err := r.Stats(t.Context(), canary)
		if !check("Stats", err, canary.Reveal()) && stats != (Stats{}) || stats.ImageCount < 0 {
			t.Errorf("Stats = %+v, %v", stats, err)
		}
	})
}
