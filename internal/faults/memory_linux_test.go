package faults

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/testenv"
)

// An answer that is larger than this machine's memory, or becomes so when it is
// unpacked, is given up for lost early.
func TestHugeAnswersCostLittleMemory(t *testing.T) {
	testenv.Need(t, "keychain")
	const bound = 48 << 10 // KiB; a helper that does nothing has about 15 MiB
	packed := bomb()
	body := func(header map[string]string, write func(io.Writer) error) Fault {
		return Fault{answer: func(_ *Service, w http.ResponseWriter, _ *http.Request) {
			for name, value := range header {
				w.Header().Set(name, value)
			}
			_ = write(w)
		}}
	}
	gigabyte := func(w io.Writer) error {
		part := strings.Repeat(`{"access_token":`, 64<<10)
		for range 1 << 10 {
			if _, err := io.WriteString(w, part); err != nil {
				return err
			}
		}
		return nil
	}
	unpacks := func(w io.Writer) error { _, err := w.Write(packed); return err }
	for _, f := range []Fault{
		named("a gigabyte", body(map[string]string{"Content-Type": "application/json"}, gigabyte)),
		named("a gigabyte that says so", body(map[string]string{"Content-Length": "1073741824"}, gigabyte)),
		named("a gigabyte in gzip", body(map[string]string{"Content-Encoding": "gzip"}, unpacks)),
		sends("a header of 16 MiB", "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("a", 16<<20)+"\r\n\r\n{}"),
		sends("a hundred thousand headers", "HTTP/1.1 200 OK\r\n"+strings.Repeat("X: y\r\n", 100_000)+"\r\n{}"),
		sends("a thousand early hints", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: "+strings.Repeat("a", 16<<10)+"\r\n\r\n", 1000)),
	} {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			s := NewService(t)
			m := NewMachine(t, s)
			m.Login()
			m.Age(2 * time.Hour)
			s.Break(f)
			for _, args := range [][]string{{"get"}, {"context", "list"}} {
				p := m.Start(strings.NewReader(Registry), args...)
				used := peakOf(p)
				o := p.Wait()
				fit(t, args[0], o)
				if used == 0 || used > bound {
					t.Errorf("%q needed %d KiB: %s", args, used, o.Stderr)
				}
				t.Logf("%q needed %d KiB: %s", args, used, o.Stderr)
			}
		})
	}
}

// peakOf is the most memory that p has held, in KiB (VmHWM, proc_pid_status(5)),
// when it was last seen: what wait4(2) tells begins with what the test itself
// has.
func peakOf(p *Process) (peak int) {
	for {
		select {
		case <-p.done:
			return peak
		case <-time.After(time.Millisecond):
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid))
		if err != nil {
			continue
		}
		if _, rest, found := strings.Cut(string(status), "VmHWM:"); found {
			_, _ = fmt.Sscan(rest, &peak)
		}
	}
}

// bomb is a gigabyte of spaces in a megabyte.
func bomb() []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	for range 1 << 10 {
		_, _ = w.Write(bytes.Repeat([]byte(" "), 1<<20))
	}
	_ = w.Close()
	return out.Bytes()
}
