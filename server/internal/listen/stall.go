package listen

import (
	"bufio"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/felixge/httpsnoop"
)

const (
	// maxStall is how long a client may send nothing of a body that it has
	// announced, and how long it may take nothing of its answer. It may take as
	// long as it likes for the whole.
	maxStall = time.Minute
	// pieceSize is how much of an answer has to go out within maxStall, in
	// bytes: about a kilobyte a second.
	pieceSize = 64 << 10
)

// hurry ends a request whose client has stopped sending or reading. Without it
// anybody could hold connections for ever: even a refusal waits for the rest of
// a small body before it is sent, and for the client to take it.
func hurry(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := &hurried{w: w, control: http.NewResponseController(w), http1: r.ProtoMajor == 1}
		h.limitWrite(0) // what the server has set is for what it answers by itself
		if r.Body != nil && r.Body != http.NoBody {
			h.owing.Store(true)
			r.Body = &hurriedBody{ReadCloser: r.Body, hurried: h, expects: h.http1 && r.Header.Get("Expect") != ""}
		}
		defer h.leave()
		next.ServeHTTP(httpsnoop.Wrap(w, h.hooks()), r)
	})
}

// hurried limits the wait for the client, and only that: no deadline is set
// while the handler does something else, such as reading from a slow storage or
// writing to one.
type hurried struct {
	w        http.ResponseWriter
	control  *http.ResponseController
	http1    bool
	owing    atomic.Bool // the client has not sent all of its body
	hijacked bool
}

// limitRead and limitWrite set a deadline, or none for 0. They fail where the
// connection is broken, and then so does what follows.
func (h *hurried) limitRead(d time.Duration)  { _ = h.control.SetReadDeadline(deadline(d)) }
func (h *hurried) limitWrite(d time.Duration) { _ = h.control.SetWriteDeadline(deadline(d)) }

func deadline(d time.Duration) time.Time {
	if d == 0 {
		return time.Time{}
	}
	return time.Now().Add(d)
}

// leave is for what the server still does when the handler has returned: it
// reads the rest of the body, and then sends what it holds of the answer.
func (h *hurried) leave() {
	if h.hijacked {
		return
	}
	if h.owing.Load() {
		h.limitRead(maxStall)
	}
	h.limitWrite(2 * maxStall)
}

// writing limits what is written within write. Over HTTP/1 the server reads the
// rest of the body before it sends the first byte.
func (h *hurried) writing(write func()) {
	if h.http1 && h.owing.Load() {
		h.limitRead(maxStall)
		defer h.limitRead(0)
		h.limitWrite(2 * maxStall)
	} else {
		h.limitWrite(maxStall)
	}
	defer h.limitWrite(0)
	write()
}

// write sends p in pieces, each of which has its own limit.
func (h *hurried) write(p []byte) (n int, err error) {
	for {
		piece := p[n:min(n+pieceSize, len(p))]
		var sent int
		h.writing(func() { sent, err = h.w.Write(piece) })
		if n += sent; err != nil || n == len(p) {
			return n, err
		}
	}
}

// readFrom leaves a file to next, which need not read it. Any other source is
// not waited for within the limit.
func (h *hurried) readFrom(next httpsnoop.ReadFromFunc, src io.Reader) (n int64, err error) {
	piece := io.LimitedReader{R: src}
	rest := int64(math.MaxInt64)
	limited, ok := src.(*io.LimitedReader) // of two of them, sendfile would not see the file
	if ok {
		piece.R, rest = limited.R, limited.N
	}
	if !regular(piece.R) {
		return io.Copy(writerFunc(h.write), src)
	}
	for rest > 0 {
		size := min(pieceSize, rest)
		piece.N = size
		var sent int64
		h.writing(func() { sent, err = next(&piece) })
		n += sent
		rest -= sent
		if limited != nil {
			limited.N = rest
		}
		if err != nil || sent < size {
			break
		}
	}
	return n, err
}

// regular also knows the file within what [os.File.WriteTo] hands on.
func regular(src io.Reader) bool {
	file, ok := src.(interface {
		syscall.Conn
		Stat() (os.FileInfo, error)
	})
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode().IsRegular()
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// hooks change none of what the server offers, such as to copy a file without
// reading it.
func (h *hurried) hooks() httpsnoop.Hooks {
	return httpsnoop.Hooks{
		Write: func(httpsnoop.WriteFunc) httpsnoop.WriteFunc { return h.write },
		ReadFrom: func(next httpsnoop.ReadFromFunc) httpsnoop.ReadFromFunc {
			return func(src io.Reader) (int64, error) { return h.readFrom(next, src) }
		},
		Flush: func(next httpsnoop.FlushFunc) httpsnoop.FlushFunc {
			return func() { h.writing(next) }
		},
		Hijack: func(next httpsnoop.HijackFunc) httpsnoop.HijackFunc {
			return func() (net.Conn, *bufio.ReadWriter, error) {
				conn, buffered, err := next()
				h.hijacked = h.hijacked || err == nil
				return conn, buffered, err
			}
		},
	}
}

type hurriedBody struct {
	io.ReadCloser
	hurried *hurried
	expects bool // the server writes "100 Continue" before it first reads
}

func (b *hurriedBody) Read(p []byte) (int, error) {
	h := b.hurried
	if b.expects {
		b.expects = false
		h.limitWrite(maxStall)
		defer h.limitWrite(0)
	}
	h.limitRead(maxStall)
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		h.owing.Store(false)
	}
	if err == nil || err == io.EOF { // else the server must not wait for more either
		h.limitRead(0)
	}
	return n, err
}

// Close may read the rest of the body.
func (b *hurriedBody) Close() error {
	if b.hurried.owing.Load() {
		b.hurried.limitRead(maxStall)
		defer b.hurried.limitRead(0)
	}
	return b.ReadCloser.Close()
}
