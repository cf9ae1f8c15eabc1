package listen

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var large = bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB

func largeFile(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(name, large, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// larges are ways to answer with large.
func larges(t *testing.T) map[string]http.HandlerFunc {
	name := largeFile(t)
	return map[string]http.HandlerFunc{
		"written": func(w http.ResponseWriter, r *http.Request) { w.Write(large) },
		"copied": func(w http.ResponseWriter, r *http.Request) {
			io.Copy(w, struct{ io.Reader }{bytes.NewReader(large)})
		},
		"a file": func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, name) },
	}
}

func TestClientsThatDoNotRead(t *testing.T) {
	tests := map[string]struct {
		handler http.HandlerFunc
		request string
		after   time.Duration // the connection is closed
	}{
		"small": {func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "whole") }, get, 2 * maxStall},
		"empty": {func(w http.ResponseWriter, r *http.Request) {}, get, 2 * maxStall},
		"flushed": {func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "whole")
			w.(http.Flusher).Flush()
		}, get, maxStall},
		"to go on": {
			func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) },
			"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n", maxStall,
		},
		"of no handler": {nil, "GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", maxStall},
	}
	for name, handler := range larges(t) {
		row := tests[name]
		row.handler, row.request, row.after = handler, get, maxStall
		tests[name] = row
	}
	for name, tt := range tests {
		t.Run("answer "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, end, done := serve(t, Options{Grace: time.Hour}, tt.handler)
				conn := l.dial()
				begun := time.Now()
				if _, err := io.WriteString(conn, tt.request); err != nil {
					t.Fatal(err)
				}
				io.Copy(conn, neverEnding{}) // an error once the server has had enough
				if took := time.Since(begun); took != tt.after {
					t.Errorf("the connection is closed after %v, want %v", took, tt.after)
				}
				conn.Close()
				end()
				if err := <-done; err != nil || time.Since(begun) > 2*tt.after {
					t.Errorf("Serve() = %v after %v", err, time.Since(begun))
				}
			})
		})
	}
}

// neverEnding is what nobody reads.
type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) { return len(p), nil }

// slowly takes half a piece at a time, with a pause before each.
func slowly(r io.Reader) ([]byte, error) {
	var all bytes.Buffer
	for {
		time.Sleep(maxStall / 3)
		if _, err := io.CopyN(&all, r, pieceSize/2); err == io.EOF {
			return all.Bytes(), nil
		} else if err != nil {
			return all.Bytes(), err
		}
	}
}

func TestSlowReadersGetItAll(t *testing.T) {
	for name, handler := range larges(t) {
		t.Run("answer "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, end, done := serve(t, Options{}, handler)
				conn := l.dial()
				response := send(t, conn, get)
				for range 2 { // the connection is as good as new
					resp, err := http.ReadResponse(response, nil)
					if err != nil {
						t.Fatal(err)
					}
					if body, err := slowly(resp.Body); err != nil || !bytes.Equal(body, large) {
						t.Errorf("%d bytes and %v, want all %d", len(body), err, len(large))
					}
					time.Sleep(maxStall)
					go io.WriteString(conn, get)
				}
				conn.Close()
				end()
				<-done
			})
		})
	}
}

func TestHandlersMayPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, end, done := serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
			for range 3 {
				time.Sleep(time.Hour)
				io.WriteString(w, "x")
				w.(http.Flusher).Flush()
			}
			time.Sleep(time.Hour)
			io.Copy(w, io.MultiReader(strings.NewReader("y"), late{}))
		})
		conn := l.dial()
		if status, body := answer(t, send(t, conn, get)); status != 200 || body != "xxxyz" {
			t.Errorf("answered %d %q, want all of it", status, body)
		}
		conn.Close()
		end()
		<-done
	})
}

// late is a storage that takes its time.
type late struct{}

func (late) Read(p []byte) (int, error) {
	time.Sleep(time.Hour)
	return copy(p, "z"), io.EOF
}

func TestHijackedConnectionsAreLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, end, done := serve(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			go func() {
				defer conn.Close()
				io.WriteString(conn, "late")
			}()
		})
		conn := l.dial()
		response := send(t, conn, get)
		time.Sleep(time.Hour)
		if text, err := io.ReadAll(response); string(text) != "late" {
			t.Errorf("%q and %v, want all that the handler has sent", text, err)
		}
		end()
		<-done
	})
}

func TestStallsOverHTTP2(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	writePair(t, certFile, keyFile, 1)
	huge := bytes.Repeat(large, 8) // more than the client's window
	for _, reads := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			// A pipe holds nothing: a server that sends tickets waits for a client
			// that sends its settings.
			config, err := TLS(certFile, keyFile, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			config.SessionTicketsDisabled = true
			l := newPipes()
			ctx, end := context.WithCancel(t.Context())
			served := make(chan error, 1)
			wrote := make(chan error, 1)
			go func() {
				served <- Serve(ctx, Options{}, Service{Listener: l, TLS: config, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					_, err := w.Write(huge)
					wrote <- err
				})})
			}()
			transport := &http.Transport{
				ForceAttemptHTTP2: true,
				TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
				DialContext:       func(context.Context, string, string) (net.Conn, error) { return l.dial(), nil },
			}
			begun := time.Now()
			resp, err := transport.RoundTrip(httptest.NewRequestWithContext(t.Context(), "GET", "https://localhost/", nil))
			if err != nil {
				t.Fatal(err)
			}
			if resp.ProtoMajor != 2 {
				t.Fatalf("the client speaks %s, want HTTP/2", resp.Proto)
			}
			if reads {
				body, err := slowly(resp.Body)
				if err != nil || !bytes.Equal(body, huge) || <-wrote != nil {
					t.Errorf("a slow client gets %d bytes and %v, want all %d", len(body), err, len(huge))
				}
			} else if err := <-wrote; err == nil || time.Since(begun) != maxStall {
				t.Errorf("the handler gets %v after %v, want an error after %v", err, time.Since(begun), maxStall)
			}
			resp.Body.Close()
			transport.CloseIdleConnections()
			end()
			<-served
		})
	}
}

// A sender takes files, as a TCP connection does.
type sender struct {
	http.ResponseWriter
	pieces int
	other  int // that are not of a file, or too large
}

func (s *sender) ReadFrom(src io.Reader) (int64, error) {
	s.pieces++
	limited, ok := src.(*io.LimitedReader)
	if ok {
		_, ok = limited.R.(syscall.Conn)
	}
	if !ok || limited.N > pieceSize {
		s.other++
	}
	return io.Copy(struct{ io.Writer }{s.ResponseWriter}, src)
}

func TestFilesAreNotRead(t *testing.T) {
	name := largeFile(t)
	for _, tt := range []struct {
		name   string
		copy   func(io.Writer, *os.File) (int64, error)
		pieces int
		length int
	}{
		{"all of a file", func(w io.Writer, f *os.File) (int64, error) { return io.Copy(w, f) }, len(large)/pieceSize + 1, len(large)},
		{"some of it", func(w io.Writer, f *os.File) (int64, error) { return io.CopyN(w, f, pieceSize+1) }, 2, pieceSize + 1},
		{"more than there is", func(w io.Writer, f *os.File) (int64, error) {
			return io.Copy(w, io.LimitReader(f, int64(len(large))+1))
		}, len(large)/pieceSize + 1, len(large)},
		{"something else", func(w io.Writer, f *os.File) (int64, error) {
			return io.Copy(w, struct{ io.Reader }{f})
		}, 0, len(large)},
	} {
		recorder := httptest.NewRecorder()
		s := &sender{ResponseWriter: recorder}
		hurry(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			file, err := os.Open(name)
			if err != nil {
				t.Error(err)
				return
			}
			defer file.Close()
			if n, err := tt.copy(w, file); n != int64(tt.length) || err != nil {
				t.Errorf("%s: %d bytes and %v are copied, want %d", tt.name, n, err, tt.length)
			}
		})).ServeHTTP(s, httptest.NewRequest("GET", "/", nil))
		if s.pieces != tt.pieces || s.other != 0 {
			t.Errorf("%s: %d pieces, %d of them no small part of a file, want %d and 0", tt.name, s.pieces, s.other, tt.pieces)
		}
		if !bytes.Equal(recorder.Body.Bytes(), large[:tt.length]) {
			t.Errorf("%s: %d bytes arrive, want the first %d", tt.name, recorder.Body.Len(), tt.length)
		}
	}
}
