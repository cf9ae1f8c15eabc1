package oauth

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestAnswersThatAreNoToken(t *testing.T) {
	const password = "correct horse"
	tests := []struct {
		name        string
		status      int
		body        string
		wantMsg     string
		refused     bool
		unreachable bool
		wantCalls   int
	}{
		{"wrong password", 401, `{"msg":"wrong password"}`, "wrong password", true, false, 1},
		{"not allowed", 403, `{"msg":"user is locked"}`, "user is locked", true, false, 1},
		{"an old version's words", 401, `{"status":"unauthorized"}`, "unauthorized", true, false, 1},
		{"both", 401, `{"status":"unauthorized","msg":"wrong password"}`, "wrong password", true, false, 1},
		{"a number for words", 401, `{"msg":7,"status":"unauthorized"}`, "unauthorized", true, false, 1},
		{"our password for words", 401, `{"msg":"correct horse is wrong"}`, "[redacted] is wrong", true, false, 1},
		{"escape sequences", 401, `{"msg":"\u001b]0;owned\u0007\u202eab"}`, "ab", true, false, 1},
		{"words without end", 401, `{"msg":"` + strings.Repeat("a", 2000) + `"}`, strings.Repeat("a", 200) + "…", true, false, 1},
		{"no body", 401, ``, "", true, false, 1},
		{"a body beyond the limit", 401, `{"msg":"` + strings.Repeat("a", 2<<20) + `"}`, "", true, false, 1},
		{"a wrong request", 400, `{"msg":"username is missing"}`, "username is missing", false, false, 1},
		{"a wrong base URL", 404, `404 page not found`, "", false, false, 1},
		{"too many requests", 429, `{"msg":"slow down"}`, "slow down", false, true, 3},
		{"broken", 500, `{"msg":"sorry"}`, "sorry", false, true, 3},
		{"a proxy's page", 502, `<html><h1>502 Bad Gateway</h1></html>`, "", false, true, 3},
		{"away", 503, `null`, "", false, true, 3},
		{"an answer that is a page", 200, `<html>log in to this hotel</html>`, "the answer is not a token response", false, false, 1},
		{"an answer beyond the limit", 200, `"` + strings.Repeat("a", 2<<20) + `"`, "the answer is longer than 1 MiB", false, false, 1},
		{"no content", 204, ``, "the answer is not a token response", false, false, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var calls atomic.Int32
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				w.WriteHeader(tt.status)
				io.WriteString(w, tt.body)
			})
			_, err := c.Password(t.Context(), "alice", password)
			if err == nil {
				t.Fatal("no error")
			}
			e := asError(t, err)
			if e.Status != tt.status || e.Msg != tt.wantMsg || e.Refused() != tt.refused || e.Unreachable() != tt.unreachable || e.Unconnected {
				t.Errorf("error = %+v, refused %v, unreachable %v, want status %d, message %q, refused %v, unreachable %v",
					*e, e.Refused(), e.Unreachable(), tt.status, tt.wantMsg, tt.refused, tt.unreachable)
			}
			if strings.Contains(err.Error(), password) {
				t.Errorf("error %q quotes the password", err)
			}
			if got := int(calls.Load()); got != tt.wantCalls {
				t.Errorf("%d calls, want %d", got, tt.wantCalls)
			}
		})
	}
}

func TestTokenInAnotherContext(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) { answerToken(t, w, tokenFor(t, ctxTwo)) })
	for name, call := range map[string]func() (Token, error){
		"Refresh": func() (Token, error) { return c.Refresh(t.Context(), "a.b.c", ctxOne) },
		"APIKey":  func() (Token, error) { return c.APIKey(t.Context(), anyKey, ctxOne) },
	} {
		token, err := call()
		if err == nil || token.Access != "" {
			t.Fatalf("%s in %s took a token in %s", name, ctxOne, ctxTwo)
		}
		if e := asError(t, err); e.Refused() || e.Unreachable() || !strings.Contains(e.Msg, ctxOne) || !strings.Contains(e.Msg, ctxTwo) {
			t.Errorf("%s: error = %v, want a wrong answer that names both contexts", name, err)
		}
	}
}

func TestRetries(t *testing.T) {
	tests := []struct {
		name       string
		statuses   []int // one for each attempt; 200 carries a token
		retryAfter string
		date       time.Time
		wantPauses []time.Duration // without jitter
		wantOK     bool
	}{
		{"the second attempt is good", []int{503, 200}, "", monday, []time.Duration{200 * time.Millisecond}, true},
		{"the third attempt is good", []int{500, 429, 200}, "", monday, []time.Duration{200 * time.Millisecond, 400 * time.Millisecond}, true},
		{"there is no fourth", []int{500, 500, 500, 200}, "", monday, []time.Duration{200 * time.Millisecond, 400 * time.Millisecond}, false},
		{"a refusal ends it", []int{500, 401, 200}, "", monday, []time.Duration{200 * time.Millisecond}, false},
		{"as long as the service asks for", []int{429, 200}, "3", monday, []time.Duration{3200 * time.Millisecond}, true},
		{"until the service's own time", []int{503, 200}, monday.Add(4 * time.Second).Format(http.TimeFormat), monday, []time.Duration{4200 * time.Millisecond}, true},
		{"a time that is past", []int{503, 200}, monday.Add(-time.Hour).Format(http.TimeFormat), monday, []time.Duration{200 * time.Millisecond}, true},
		{"nonsense", []int{503, 200}, "soon", monday, []time.Duration{200 * time.Millisecond}, true},
		{"a negative wait", []int{503, 200}, "-9", monday, []time.Duration{200 * time.Millisecond}, true},
		{"longer than a call lasts: not at all", []int{429, 200}, "60", monday, nil, false},
		{"longer than time itself: not at all", []int{429, 200}, "18446744073709551615", monday, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var calls atomic.Int32
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				status := tt.statuses[calls.Add(1)-1]
				if status == http.StatusOK {
					answerToken(t, w, tokenFor(t, ctxOne))
					return
				}
				w.Header().Set("Date", tt.date.Format(http.TimeFormat))
				if tt.retryAfter != "" {
					w.Header().Set("Retry-After", tt.retryAfter)
				}
				w.WriteHeader(status)
			})
			var pauses []time.Duration
			c.sleep = func(_ context.Context, d time.Duration) error {
				pauses = append(pauses, d)
				return nil
			}
			_, err := c.Password(t.Context(), "alice", "hunter2")
			if (err == nil) != tt.wantOK {
				t.Errorf("error = %v, want none to be %v", err, tt.wantOK)
			}
			ok := slices.EqualFunc(pauses, tt.wantPauses, func(got, want time.Duration) bool {
				half := firstPause // jitter is up to half of 200 or 400 ms
				return got >= want-half && got <= want+half
			})
			if !ok {
				t.Errorf("pauses = %v, want about %v", pauses, tt.wantPauses)
			}
		})
	}
}

func TestNoRetryBeyondTheDeadline(t *testing.T) {
	var calls atomic.Int32
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		w.Header().Set("Retry-After", "20")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	c.sleep = func(context.Context, time.Duration) error {
		t.Error("waited for what the deadline does not allow")
		return nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err := c.APIKey(ctx, anyKey, "")
	if e := asError(t, err); e.Status != http.StatusServiceUnavailable || calls.Load() != 1 {
		t.Errorf("after %d calls: %v, want one call and its 503", calls.Load(), err)
	}
}

func TestTheCallEndsBetweenAttempts(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := &Client{BaseURL: "http://" + closedPort(t), sleep: func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() }}
	_, err := c.APIKey(ctx, anyKey, "")
	if e := asError(t, err); !errors.Is(err, context.Canceled) || e.Unreachable() || e.Unconnected || e.Msg != "interrupted" {
		t.Errorf("cancelled: error = %+v, want the caller's own cancellation", *e)
	}

	late := make(chan struct{})
	c.sleep = func(ctx context.Context, _ time.Duration) error { close(late); <-ctx.Done(); return ctx.Err() }
	_, err = c.APIKey(expiring{t.Context(), late}, anyKey, "")
	if e := asError(t, err); !errors.Is(err, context.DeadlineExceeded) || !e.Unreachable() || !e.Unconnected {
		t.Errorf("too late: error = %+v, want the deadline's, Unconnected", *e)
	}
}

// A key made twice would be a key that nobody knows of.
func TestCreateKeyIsSentOnce(t *testing.T) {
	for _, status := range []int{429, 500, 503} {
		var calls atomic.Int32
		c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			w.WriteHeader(status)
		})
		if _, err := c.CreateKey(t.Context(), "a.b.c", ctxOne, ""); err == nil || calls.Load() != 1 {
			t.Errorf("CreateKey with a %d: %d calls, error %v, want one call and an error", status, calls.Load(), err)
		}
	}
	c, pauses := &Client{BaseURL: "http://" + closedPort(t)}, 0
	c.sleep = func(context.Context, time.Duration) error { pauses++; return nil }
	if _, err := c.CreateKey(t.Context(), "a.b.c", ctxOne, ""); err == nil || pauses != maxRetries {
		t.Errorf("CreateKey at a closed port: %d pauses, error %v, want two and an error", pauses, err)
	}
}

func TestRedirectsGetNoCredential(t *testing.T) {
	evil := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer evil.Close()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, status := range []int{301, 302, 303, 307, 308} {
		for name, client := range map[string]*http.Client{"ours": nil, "one that follows redirects and keeps cookies": {Jar: jar}} {
			c := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if len(r.Cookies()) != 0 {
					t.Error("a cookie was sent")
				}
				http.SetCookie(w, &http.Cookie{Name: "dtz-auth", Value: "theirs", Path: "/"})
				http.Redirect(w, r, evil.URL, status)
			})
			c.HTTP = client
			for range 2 {
				_, err := c.Refresh(t.Context(), "a.b.c", "")
				if e := asError(t, err); e.Status != status || !strings.Contains(e.Msg, "redirects are not followed") || e.Unreachable() || e.Refused() {
					t.Errorf("%s client, %d: error = %v, want one that says that redirects are not followed", name, status, err)
				}
			}
		}
	}
}

func TestRaceOfCalls(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) { answerToken(t, w, tokenFor(t, ctxOne)) })
	errs := make(chan error)
	for range 16 {
		go func() {
			_, err := c.APIKey(t.Context(), anyKey, ctxOne)
			errs <- err
		}()
	}
	for range 16 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
