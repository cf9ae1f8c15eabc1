package faults

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
)

// Fault is one way to misbehave.
type Fault struct {
	Name string // for rows of tables

	gone bool
	// answer is what it does with a request; nil: what it should.
	answer func(*Service, http.ResponseWriter, *http.Request)
}

func (f Fault) String() string { return f.Name }

// All are the faults, one of each kind, for tables that try every one.
func All() []Fault {
	return []Fault{
		Slow(300 * time.Millisecond), Silent, HangsUp, Huge, Trickle, HalfOpen, CutOff, Garbage, Gone, Stale,
		Redirects("http://127.0.0.1:1/"),
		Answers(http.StatusOK, "application/json", ""),
		Answers(http.StatusOK, "application/json", "{}"),
		Answers(http.StatusOK, "text/html", "<!doctype html><title>Sign in to this hotel's network</title>"),
		Answers(http.StatusNoContent, "", ""),
		Answers(http.StatusBadRequest, "application/json", `{"msg":"bad request"}`),
		Answers(http.StatusUnauthorized, "application/json", `{"msg":"token not valid"}`),
		Answers(http.StatusForbidden, "application/json", `{"msg":"not in this context"}`),
		Answers(http.StatusNotFound, "text/plain", "404 page not found"),
		Answers(http.StatusTooManyRequests, "application/json", `{"msg":"slow down"}`),
		Answers(http.StatusInternalServerError, "application/json", `{"msg":"internal error"}`),
		Answers(http.StatusBadGateway, "text/html", "<h1>502 Bad Gateway</h1>"),
	}
}

// Works is no fault.
var Works = Fault{Name: "works"}

// Gone is nobody who listens at the address.
var Gone = Fault{Name: "gone", gone: true}

// Slow answers as it should, but d later.
func Slow(d time.Duration) Fault {
	return Fault{Name: "slow by " + d.String(), answer: func(s *Service, w http.ResponseWriter, r *http.Request) {
		if s.wait(r, d) {
			s.Identity.ServeHTTP(w, r)
		}
	}}
}

// Silent takes requests and never answers.
var Silent = Fault{Name: "silent", answer: func(s *Service, _ http.ResponseWriter, r *http.Request) {
	s.wait(r, forEver)
}}

// Answers answers every request alike.
func Answers(status int, contentType, body string) Fault {
	name := fmt.Sprintf("answers %d", status)
	if contentType != "" {
		name += fmt.Sprintf(" with %d bytes of %s", len(body), contentType)
	}
	return Fault{Name: name, answer: func(_ *Service, w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // a real server reads the request too
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}}
}

// Redirects sends every request to url, its method and body kept (RFC 9110
// §15.4.8).
func Redirects(url string) Fault {
	return Fault{Name: "redirects", answer: func(_ *Service, w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, url, http.StatusTemporaryRedirect)
	}}
}

// Huge answers with a token that never ends.
var Huge = Fault{Name: "huge", answer: func(_ *Service, w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, err := io.WriteString(w, `{"token_type":"Bearer","access_token":"`)
	for part := strings.Repeat("eyJ0", 4096); err == nil; {
		_, err = io.WriteString(w, part)
	}
}}

// Trickle answers as it should, a byte a second.
var Trickle = Fault{Name: "trickle", answer: func(s *Service, w http.ResponseWriter, r *http.Request) {
	whole := s.right(r)
	copyHeader(w, whole)
	for _, b := range whole.Body.Bytes() {
		if !s.wait(r, time.Second) {
			return
		}
		if _, err := w.Write([]byte{b}); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
	}
}}

// HalfOpen sends half of the right answer and then nothing, for ever.
var HalfOpen = Fault{Name: "half-open", answer: func(s *Service, w http.ResponseWriter, r *http.Request) {
	s.half(w, r)
	s.wait(r, forEver)
}}

// CutOff sends half of the right answer and then resets the connection.
var CutOff = Fault{Name: "cut off", answer: func(s *Service, w http.ResponseWriter, r *http.Request) {
	s.half(w, r)
	if conn, _ := hijack(w); conn != nil {
		_ = conn.(*net.TCPConn).SetLinger(0) // a reset and no FIN (socket(7))
		_ = conn.Close()
	}
}}

// HangsUp closes the connection in place of an answer.
var HangsUp = Fault{Name: "hangs up", answer: func(_ *Service, w http.ResponseWriter, _ *http.Request) {
	if conn, _ := hijack(w); conn != nil {
		_ = conn.Close()
	}
}}

// Garbage answers with what is not HTTP.
var Garbage = Fault{Name: "garbage", answer: func(_ *Service, w http.ResponseWriter, _ *http.Request) {
	if conn, buffered := hijack(w); conn != nil {
		_, _ = buffered.WriteString("SSH-2.0-OpenSSH_9.2p1\r\n\x00\x1b[2J\xff\r\n\r\n")
		_ = buffered.Flush()
		_ = conn.Close()
	}
}}

// Stale answers as it should, but with a token of yesterday, which has ended.
var Stale = Fault{Name: "stale", answer: func(s *Service, w http.ResponseWriter, r *http.Request) {
	whole := s.right(r)
	var answer map[string]any
	if whole.Code == http.StatusOK && json.Unmarshal(whole.Body.Bytes(), &answer) == nil {
		if token, ok := answer["access_token"].(string); ok {
			claims, err := oauth.ParseClaims(token)
			if err == nil {
				answer["access_token"], err = s.yesterday.Issue(claims.Subject, claims.Context)
			}
			if err != nil {
				panic(err)
			}
			whole.Body.Reset()
			_ = json.NewEncoder(whole.Body).Encode(answer)
		}
	}
	copyHeader(w, whole)
	_, _ = w.Write(whole.Body.Bytes())
}}

const forEver = 1000 * time.Hour

// wait waits for d and returns true, or false if the client or the test is gone
// before.
func (s *Service) wait(r *http.Request, d time.Duration) bool {
	// The server notices that the client is gone once it has read the body.
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	select {
	case <-time.After(d):
		return true
	case <-r.Context().Done():
	case <-s.closed:
	}
	return false
}

// right is the answer that there should be.
func (s *Service) right(r *http.Request) *httptest.ResponseRecorder {
	whole := httptest.NewRecorder()
	s.Identity.ServeHTTP(whole, r)
	return whole
}

func copyHeader(w http.ResponseWriter, whole *httptest.ResponseRecorder) {
	for name, values := range whole.Header() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(whole.Body.Len()))
	w.WriteHeader(whole.Code)
}

// half sends the header of the right answer and half of its body.
func (s *Service) half(w http.ResponseWriter, r *http.Request) {
	whole := s.right(r)
	copyHeader(w, whole)
	_, _ = w.Write(whole.Body.Bytes()[:whole.Body.Len()/2])
	_ = http.NewResponseController(w).Flush()
}

// hijack takes the connection over from the server; nil if it is gone.
func hijack(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil
	}
	return conn, buffered
}
