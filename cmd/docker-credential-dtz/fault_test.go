package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/identity"
)

// fault makes an identity service misbehave: the one place for it in these
// tests.
type fault struct {
	mu          sync.Mutex
	status      int
	contentType string
	body        string
	echo        bool
	only        string         // the one path that is concerned; "" means all
	delay       time.Duration  // before any answer
	faulty      map[string]int // requests that were answered so, by path
}

func (f *fault) mustSet(args ...string) {
	if err := f.set(args); err != nil {
		panic(err)
	}
}

func (f *fault) slow(delay time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delay = delay
}

func (f *fault) calls(path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.faulty[path]
}

// set takes "works", or "echoes": 401 with all that was sent, or "answers", a
// status, and maybe a content type and body, or "breaks", a path of the API and
// maybe a status: 500 there, or that.
func (f *fault) set(args []string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status, f.contentType, f.body, f.echo, f.only = 0, "", "", false, ""
	switch {
	case args[0] == "works":
		return nil
	case args[0] == "echoes":
		f.status, f.contentType, f.echo = http.StatusUnauthorized, "application/json", true
		return nil
	case args[0] == "breaks" && (len(args) == 2 || len(args) == 3):
		f.status, f.only = http.StatusInternalServerError, identity.BasePath+args[1]
		if len(args) == 2 {
			return nil
		}
		status, err := strconv.Atoi(args[2])
		f.status = status
		return err
	case args[0] == "answers" && (len(args) == 2 || len(args) == 4):
		status, err := strconv.Atoi(args[1])
		f.status = status
		if len(args) == 4 {
			f.contentType, f.body = args[2], args[3]
		}
		return err
	}
	return fmt.Errorf("identity %q is not understood", args)
}

func (f *fault) around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		status, contentType, body, echo, delay := f.status, f.contentType, f.body, f.echo, f.delay
		if f.only != "" && f.only != r.URL.Path {
			status = 0
		}
		if status != 0 {
			f.faulty[r.URL.Path]++
		}
		f.mu.Unlock()
		time.Sleep(delay)
		if status == 0 {
			next.ServeHTTP(w, r)
			return
		}
		// The request is read: a real server does that too.
		sent, _ := io.ReadAll(r.Body)
		if echo {
			msg, _ := json.Marshal(map[string]string{"msg": fmt.Sprint(r.URL, r.Header, string(sent))})
			body = string(msg)
		}
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}
