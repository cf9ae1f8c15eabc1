package listen

import (
	"io"
	"net/http"
	"time"
)

// maxStall is how long a client may send nothing of a body that it has
// announced. It may take as long as it likes for the whole.
const maxStall = time.Minute

// hurry ends a request whose client has stopped sending. Without it anybody
// could hold connections for ever: even a refusal waits for the rest of a small
// body before it is sent.
func hurry(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody {
			next.ServeHTTP(w, r)
			return
		}
		body := &hurriedBody{ReadCloser: r.Body, control: http.NewResponseController(w)}
		r.Body = body
		defer body.leave()
		next.ServeHTTP(w, r)
	})
}

// hurriedBody limits the wait for the client, and only that: no deadline is set
// while the handler does something else, such as writing to a slow storage.
type hurriedBody struct {
	io.ReadCloser
	control *http.ResponseController
	ended   bool
}

func (b *hurriedBody) Read(p []byte) (int, error) {
	b.setDeadline(time.Now().Add(maxStall))
	n, err := b.ReadCloser.Read(p)
	b.ended = err != nil
	if err == nil || err == io.EOF { // else the server must not wait for more either
		b.setDeadline(time.Time{})
	}
	return n, err
}

// leave is for what the server still reads of a body that the handler has not
// read to its end.
func (b *hurriedBody) leave() {
	if !b.ended {
		b.setDeadline(time.Now().Add(maxStall))
	}
}

// setDeadline fails where the connection is broken, and then so does reading.
func (b *hurriedBody) setDeadline(t time.Time) { _ = b.control.SetReadDeadline(t) }
