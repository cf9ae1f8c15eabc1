package registry

import (
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Exchanges are limited by how many run at a time: so the limit goes by what the
// identity service bears. Keys that have been accepted before have a limiter of
// their own, and never wait for unknown ones.
const (
	maxExchanges = 32  // of unknown keys, in all
	maxShare     = 8   // of them, for one address
	maxRenewals  = 128 // of known keys, whoever asks
	maxWaiting   = 4096
	maxWait      = 5 * time.Second
)

// siteBits is the length of the IPv6 prefix that stands for one client. A site
// may have a /48 (RFC 6177 §2): if each /64 counted, it would have 65,536 shares.
const siteBits = 48

// A limiter lets exchanges begin one after another: those for one address in
// the order in which they come, and addresses in turn. Whoever floods it fills
// his own queue, and those behind his address wait with him.
type limiter struct {
	most  int // that run at a time
	share int // of them, for one address

	mu      sync.Mutex
	running int
	waiting int
	queues  map[netip.Prefix]*queue
	turns   []*queue // the queues in which somebody waits; the first is the next
}

// A queue is what runs and what waits for one address.
type queue struct {
	address netip.Prefix
	running int
	waiting []*ticket
}

// A ticket is an exchange's place in a queue.
type ticket struct {
	limiter *limiter
	queue   *queue
	begin   func() // in a goroutine of its own
	refuse  func() // called instead, when the wait becomes too long
	timer   *time.Timer
}

// addressOf is whom a's queue stands for.
func addressOf(a netip.Addr) netip.Prefix {
	a = a.Unmap()
	bits := a.BitLen()
	if a.Is6() {
		bits = siteBits
	}
	prefix, _ := a.Prefix(bits) // the zero prefix for no address at all
	return prefix
}

// join lets an exchange for an address begin, at once or later. It returns nil
// if there is no room: then neither begin nor refuse is called. Where room is
// short, it is the longest queue that gets no more.
func (l *limiter) join(address netip.Prefix, begin, refuse func()) *ticket {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := l.queues[address]
	if own == nil {
		own = &queue{address: address}
	}
	t := &ticket{limiter: l, queue: own, begin: begin, refuse: refuse}
	if l.waiting == maxWaiting && !l.shorten(own) {
		return nil
	}
	if l.queues == nil {
		l.queues = make(map[netip.Prefix]*queue)
	}
	l.queues[address] = own
	if len(own.waiting) == 0 {
		l.turns = append(l.turns, own)
	}
	own.waiting = append(own.waiting, t)
	l.waiting++
	t.timer = time.AfterFunc(maxWait, func() {
		if t.leave() {
			t.refuse()
		}
	})
	l.advance()
	return t
}

// shorten refuses the last of the longest queue, unless that is the newcomer's.
func (l *limiter) shorten(newcomers *queue) bool {
	longest := newcomers
	for _, other := range l.turns {
		if len(other.waiting) > len(longest.waiting)+1 {
			longest = other
		}
	}
	if longest == newcomers {
		return false
	}
	last := longest.waiting[len(longest.waiting)-1]
	l.remove(last)
	go last.refuse() // its own locks are not ours
	return true
}

// leave gives a place up, if t has not begun yet, nor been refused.
func (t *ticket) leave() bool {
	t.limiter.mu.Lock()
	defer t.limiter.mu.Unlock()
	return t.limiter.remove(t)
}

// remove reports whether t was waiting. The caller holds l.mu.
func (l *limiter) remove(t *ticket) bool {
	i := slices.Index(t.queue.waiting, t)
	if i < 0 {
		return false
	}
	t.timer.Stop()
	t.queue.waiting = slices.Delete(t.queue.waiting, i, i+1)
	l.waiting--
	if len(t.queue.waiting) == 0 {
		i := slices.Index(l.turns, t.queue)
		l.turns = slices.Delete(l.turns, i, i+1)
	}
	l.forget(t.queue)
	return true
}

// forget drops a queue in which nothing happens any more.
func (l *limiter) forget(idle *queue) {
	if idle.running == 0 && len(idle.waiting) == 0 {
		delete(l.queues, idle.address)
	}
}

// advance begins what may begin. The caller holds l.mu.
func (l *limiter) advance() {
	for l.running < l.most {
		i := slices.IndexFunc(l.turns, func(o *queue) bool { return o.running < l.share })
		if i < 0 {
			return
		}
		next := l.turns[i]
		t := next.waiting[0]
		next.running++
		l.running++
		l.remove(t)
		if len(next.waiting) > 0 {
			l.turns = append(slices.Delete(l.turns, i, i+1), next)
		}
		go func() {
			defer l.end(next)
			t.begin()
		}()
	}
}

func (l *limiter) end(of *queue) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running--
	of.running--
	l.forget(of)
	l.advance()
}

func (l *limiter) length() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting
}

// errLimited is for a key that nothing is known of yet, not even that it is bad.
var errLimited = &Error{
	Status:     http.StatusTooManyRequests,
	Code:       "TOOMANYREQUESTS",
	Message:    "too many unknown API keys are tried from this address; try again",
	RetryAfter: retryAfter,
}
