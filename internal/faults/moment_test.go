//go:build linux

package faults

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// undisturbed is how long a change takes.
func (b *crashBench) undisturbed(k crashKind) time.Duration {
	b.t.Helper()
	var took []time.Duration
	for n := range 4 {
		if k.due != nil {
			k.due(b)
		}
		o := b.Run(k.stdin, k.args(n)...)
		if o.Code != 0 {
			b.t.Fatalf("%q: %s", k.args(n), o.Stderr)
		}
		took = append(took, o.Took)
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// chooseMoment returns when p is to be killed, and says when that is: at any
// moment, around the answer of the identity service, or while it writes.
func (b *crashBench) chooseMoment(rnd *rand.Rand, p *Process, whole time.Duration, written int) string {
	part := func(d time.Duration) time.Duration { return time.Duration(rnd.Int64N(int64(d) + 1)) }
	answered := b.answers.next()
	switch rnd.IntN(4) {
	case 0:
		d := part(whole * 11 / 10)
		sleep(p, d)
		return fmt.Sprintf("%v after its start", d)
	case 1:
		d := part(whole / 3)
		select {
		case <-answered:
			sleep(p, d)
			return fmt.Sprintf("%v after an answer", d)
		case <-b.writes.reach(written + 1):
			return "when it began to write"
		case <-p.done:
		}
	default:
		nth, d := 1+rnd.IntN(8), part(300*time.Microsecond)
		select {
		case <-b.writes.reach(written + nth):
			sleep(p, d)
			return fmt.Sprintf("%v after write number %d", d, nth)
		case <-p.done:
		}
	}
	return "when it had ended"
}

func sleep(p *Process, d time.Duration) {
	select {
	case <-time.After(d):
	case <-p.done:
	}
}

// answers notes the tokens that an identity service gives out.
type answers struct {
	mu    sync.Mutex
	given map[string]bool
	come  chan struct{}
}

func newAnswers() *answers { return &answers{given: map[string]bool{}, come: make(chan struct{})} }

func (a *answers) noted() Fault {
	return Fault{Name: "works", answer: func(s *Service, w http.ResponseWriter, r *http.Request) {
		whole := s.right(r)
		var answer struct {
			Token string `json:"access_token"`
		}
		if json.Unmarshal(whole.Body.Bytes(), &answer) == nil && answer.Token != "" {
			a.mu.Lock()
			a.given[fingerprint(answer.Token)] = true
			a.mu.Unlock()
		}
		copyHeader(w, whole)
		_, _ = io.Copy(w, whole.Body)
		_ = http.NewResponseController(w).Flush()
		a.mu.Lock()
		defer a.mu.Unlock()
		close(a.come)
		a.come = make(chan struct{})
	}}
}

func (a *answers) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.given)
}

func (a *answers) has(token string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.given[token]
}

// next is closed when the service has answered.
func (a *answers) next() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.come
}
