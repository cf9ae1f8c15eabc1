package listen

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections are made in the same process, so that
// time need not pass.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

// dial is nil once p is closed.
func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client
	case <-p.closed:
		return nil
	}
}

// send writes a request and returns where the answer comes.
func send(t *testing.T, conn net.Conn, request string) *bufio.Reader {
	t.Helper()
	go io.WriteString(conn, request) // the server may answer before it has read everything
	return bufio.NewReader(conn)
}

func answer(t *testing.T, from *bufio.Reader) (status int, body string) {
	t.Helper()
	resp, err := http.ReadResponse(from, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// serve runs one service until the test calls end, which returns what Serve
// does.
func serve(t *testing.T, o Options, h http.HandlerFunc) (l *pipes, end func(), done <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	l = newPipes()
	result := make(chan error, 1)
	go func() { result <- Serve(ctx, o, Service{Listener: l, Handler: h}) }()
	return l, cancel, result
}

const get = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

func TestRequestsUnderWayAreFinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		work := make(chan string)
		l, end, done := serve(t, Options{Grace: time.Hour}, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, <-work)
		})
		response := send(t, l.dial(), get)
		synctest.Wait()
		end()
		synctest.Wait()
		if l.dial() != nil {
			t.Error("a connection is taken after the end")
		}
		time.Sleep(59 * time.Minute)
		work <- "whole"
		if status, body := answer(t, response); status != 200 || body != "whole" {
			t.Errorf("the request under way is answered %d %q, want all of it", status, body)
		}
		if err := <-done; err != nil {
			t.Errorf("Serve() = %v, want nil", err)
		}
	})
}

func TestGraceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, end, done := serve(t, Options{Grace: time.Hour}, func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
		})
		response := send(t, l.dial(), get)
		synctest.Wait()
		begun := time.Now()
		end()
		if err := <-done; err != nil {
			t.Errorf("Serve() = %v, want nil", err)
		}
		if took := time.Since(begun); took != time.Hour {
			t.Errorf("Serve ends after %v, want the grace of an hour", took)
		}
		if _, err := response.ReadByte(); err == nil {
			t.Error("the request is answered, want it cut off")
		}
	})
}

func TestListenersStayOpenWhileStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopping := func() { time.Sleep(5 * time.Second) }
		l, end, done := serve(t, Options{Grace: time.Hour, Stopping: stopping}, func(w http.ResponseWriter, r *http.Request) {})
		end()
		time.Sleep(4 * time.Second)
		conn := l.dial()
		if conn == nil {
			t.Fatal("no connection is taken while Stopping runs")
		}
		if status, _ := answer(t, send(t, conn, get)); status != 200 {
			t.Errorf("a request while Stopping runs is answered %d, want 200", status)
		}
		if err := <-done; err != nil {
			t.Errorf("Serve() = %v, want nil", err)
		}
		if l.dial() != nil {
			t.Error("a connection is taken after Stopping has returned")
		}
	})
}

func TestServicesEndInTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		first, second := newPipes(), newPipes()
		work := make(chan struct{})
		done := make(chan error, 1)
		go func() {
			done <- Serve(ctx, Options{Grace: time.Hour},
				Service{Listener: first, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-work })},
				Service{Listener: second, Handler: http.NotFoundHandler()})
		}()
		response := send(t, first.dial(), get)
		synctest.Wait()
		cancel()
		synctest.Wait()
		conn := second.dial()
		if conn == nil {
			t.Fatal("the second service ends before the first")
		}
		if status, _ := answer(t, send(t, conn, get)); status != 404 {
			t.Errorf("the second service answers %d, want its 404", status)
		}
		close(work)
		answer(t, response)
		if err := <-done; err != nil {
			t.Errorf("Serve() = %v, want nil", err)
		}
	})
}

func TestOneFailureEndsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := newPipes(), newPipes()
		var logged strings.Builder
		stopping := func() {
			if !strings.Contains(logged.String(), net.ErrClosed.Error()) {
				t.Errorf("the log has %q when Stopping is called, want the cause", logged.String())
			}
			time.Sleep(5 * time.Second)
		}
		done := make(chan error, 1)
		go func() {
			done <- Serve(t.Context(), Options{Grace: time.Hour, Stopping: stopping, Log: slog.New(slog.NewTextHandler(&logged, nil))},
				Service{Listener: first, Handler: http.NotFoundHandler()},
				Service{Listener: second, Handler: http.NotFoundHandler()})
		}()
		synctest.Wait()
		begun := time.Now()
		second.Close()
		time.Sleep(4 * time.Second)
		conn := first.dial()
		if conn == nil {
			t.Fatal("the other service has ended while Stopping runs")
		}
		if status, _ := answer(t, send(t, conn, get)); status != 404 {
			t.Errorf("a request while Stopping runs is answered %d, want 404", status)
		}
		if err := <-done; !errors.Is(err, net.ErrClosed) || time.Since(begun) != 5*time.Second {
			t.Errorf("Serve() = %v after %v, want the listener's error once Stopping has returned", err, time.Since(begun))
		}
		if first.dial() != nil {
			t.Error("the other service goes on")
		}
	})
}

func TestClientsThatStall(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\n"
	refuse := func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusUnauthorized) }
	refuseAtLength := func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		w.Write(make([]byte, 10<<10)) // more than the server holds back
	}
	closeAndRefuse := func(w http.ResponseWriter, r *http.Request) {
		r.Body.Close()
		w.WriteHeader(http.StatusUnauthorized)
	}
	read := func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Write(body)
	}
	readLate := func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Hour)
		read(w, r)
	}
	answerLate := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		select {
		case <-time.After(time.Hour):
		case <-r.Context().Done():
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
	tests := []struct {
		name    string
		handler http.HandlerFunc
		bytes   int           // of the 20 that are sent
		every   time.Duration // before each of them
		status  int
		after   time.Duration
	}{
		{"a refusal does not wait for ever for the body", refuse, 0, 0, 401, maxStall},
		{"nor for the rest of it, however it trickles in", refuse, 19, 10 * time.Second, 401, maxStall},
		{"nor does a long one", refuseAtLength, 0, 0, 401, maxStall},
		{"nor a handler that closes the body", closeAndRefuse, 0, 0, 401, maxStall},
		{"a body that never comes is an error", read, 0, 0, 400, maxStall},
		{"and so is one that stops", read, 19, time.Second, 400, 19*time.Second + maxStall},
		{"a slow body may take as long as it likes", read, 20, 59 * time.Second, 200, 20 * 59 * time.Second},
		{"a handler may begin late to read", readLate, 20, 0, 200, time.Hour},
		{"and late to answer", answerLate, 20, 0, 200, time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, end, done := serve(t, Options{}, tt.handler)
				conn := l.dial()
				begun := time.Now()
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					io.WriteString(conn, post)
					for range tt.bytes {
						time.Sleep(tt.every)
						io.WriteString(conn, "x") // an error once the server has had enough
					}
				}()
				status, _ := answer(t, bufio.NewReader(conn))
				if took := time.Since(begun); status != tt.status || took != tt.after {
					t.Errorf("answered %d after %v, want %d after %v", status, took, tt.status, tt.after)
				}
				conn.Close()
				<-sent
				end()
				<-done
			})
		})
	}
}

func TestHeaders(t *testing.T) {
	header := func(size int) string {
		return "GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + strings.Repeat("x", size) + "\r\n\r\n"
	}
	tests := []struct {
		name    string
		request string
		status  int // 0: the connection is closed without an answer
	}{
		{"the largest token, in Basic, and a cookie besides", header(48<<10*4/3 + 48<<10), 200},
		{"a header that is longer", header(200 << 10), 431},
		{"a header that never ends", "GET / HTTP/1.1\r\nHost: localhost\r\n", 0},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			l, end, done := serve(t, Options{}, func(http.ResponseWriter, *http.Request) {})
			conn := l.dial()
			response := send(t, conn, tt.request)
			begun := time.Now()
			if tt.status != 0 {
				if status, _ := answer(t, response); status != tt.status {
					t.Errorf("%s: answered %d, want %d", tt.name, status, tt.status)
				}
			} else if _, err := response.ReadByte(); err != io.EOF || time.Since(begun) != headerTimeout {
				t.Errorf("%s: %v after %v, want the end of the connection after %v", tt.name, err, time.Since(begun), headerTimeout)
			}
			conn.Close()
			end()
			<-done
		})
	}
}
