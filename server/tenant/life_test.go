package tenant_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distribution/distribution/v3/configuration"

	"github.com/DownToZero-Cloud/docker-credential-dtz/server/tenant"
)

// ask is one request without a server, so that a synctest bubble can hold it.
func ask(t *testing.T, apps *tenant.Apps, id, path string) int {
	t.Helper()
	app, err := apps.App(id)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	app.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code
}

func live(apps *tenant.Apps) int {
	n, _ := apps.Stats()
	return n
}

func contextNo(i int) string { return fmt.Sprintf("context-no%06d", i) }

func TestIdleAppsEnd(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		apps := tenant.New(withStorage(inFolder(dir)))
		apps.Idle = time.Minute
		ask(t, apps, mine, "/v2/")
		time.Sleep(59 * time.Second)
		ask(t, apps, mine, "/v2/")
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if got := live(apps); got != 1 {
			t.Errorf("%d apps live a minute after the first request, and less after the second, want 1", got)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := live(apps); got != 0 {
			t.Errorf("%d apps live after a minute without a request, want none", got)
		}
		if got := ask(t, apps, mine, "/v2/"); got != http.StatusOK {
			t.Errorf("GET /v2/ after that = %d, want 200", got)
		}
		time.Sleep(2 * time.Minute) // for the app's goroutine, which is to end
	})
}

func TestLongestIdleMakesRoom(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		apps := tenant.New(withStorage(inFolder(dir)))
		apps.MaxLive = 2
		for _, i := range []int{0, 1, 0, 2} {
			ask(t, apps, contextNo(i), "/v2/")
			time.Sleep(time.Second)
		}
		if n, evicted := apps.Stats(); n != 2 || evicted != 1 {
			t.Errorf("%d apps live and %d were ended, want 2 and 1", n, evicted)
		}
		ask(t, apps, contextNo(0), "/v2/") // used after 1 was, and so it lives
		if n, evicted := apps.Stats(); n != 2 || evicted != 1 {
			t.Errorf("after another request to a live app %d live and %d were ended, want 2 and 1", n, evicted)
		}
		time.Sleep(time.Hour)
	})
}

// The images of the inmemory storage would be lost.
func TestAppsInMemoryStay(t *testing.T) {
	apps := tenant.New(withStorage(inMemory))
	apps.MaxLive = 1
	apps.Idle = time.Nanosecond
	newClient(t, apps, mine).push("app", []byte("x"))
	newClient(t, apps, theirs).push("app", []byte("x"))
	newClient(t, apps, mine).want(http.StatusOK, "GET", "/v2/app/manifests/v1", nil)
}

func TestUploadOutlivesItsApp(t *testing.T) {
	apps := tenant.New(withStorage(inFolder(t.TempDir())))
	apps.MaxLive = 1
	us, them := newClient(t, apps, mine), newClient(t, apps, theirs)
	evict := func() {
		_, before := apps.Stats()
		them.want(http.StatusOK, "GET", "/v2/", nil)
		if _, after := apps.Stats(); after == before {
			t.Fatal("another context's request has not ended the app")
		}
	}
	blob := []byte("first half, second half")
	upload := us.want(http.StatusAccepted, "POST", "/v2/app/blobs/uploads/", nil).Get("Location")
	evict()
	upload = us.want(http.StatusAccepted, "PATCH", upload, blob[:11]).Get("Location")
	evict()
	upload = us.want(http.StatusAccepted, "PATCH", upload, blob[11:]).Get("Location")
	evict()
	us.want(http.StatusCreated, "PUT", upload+"&digest="+digestOf(blob), nil)
	evict()
	us.want(http.StatusOK, "GET", "/v2/app/blobs/"+digestOf(blob), nil)
}

func TestAppWithRequestStays(t *testing.T) {
	apps := tenant.New(withStorage(inFolder(t.TempDir())))
	apps.MaxLive = 1
	apps.Idle = time.Nanosecond
	us, them := newClient(t, apps, mine), newClient(t, apps, theirs)
	upload := us.want(http.StatusAccepted, "POST", "/v2/app/blobs/uploads/", nil).Get("Location")
	_, path, _ := strings.Cut(upload, "/v2/")
	blob := []byte("a layer")
	body, write := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "PUT", us.url+"/v2/"+path+"&digest="+digestOf(blob), body)
	if err != nil {
		t.Fatal(err)
	}
	// The body is read only when the app has asked for it.
	req.Header.Set("Expect", "100-continue")
	transport := &http.Transport{ExpectContinueTimeout: time.Hour}
	defer transport.CloseIdleConnections()
	status := make(chan int, 1)
	go func() {
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Error(err)
			status <- 0
			return
		}
		resp.Body.Close()
		status <- resp.StatusCode
	}()
	if _, err := write.Write(blob[:3]); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		them.want(http.StatusOK, "GET", "/v2/", nil)
	}
	if _, err := write.Write(blob[3:]); err != nil {
		t.Fatal(err)
	}
	write.Close()
	if got := <-status; got != http.StatusCreated {
		t.Errorf("an upload during which other contexts came and went = %d, want 201", got)
	}
}

// Uploads that are under way in many contexts keep their apps, up to a bound.
func TestTooManyBusyContexts(t *testing.T) {
	apps := tenant.New(withStorage(inFolder(t.TempDir())))
	apps.MaxLive = 2
	const most = 10
	handlers := make([]http.Handler, most+1)
	for i := range handlers {
		var err error
		if handlers[i], err = apps.App(contextNo(i)); err != nil {
			t.Fatal(err)
		}
	}
	var uploads sync.WaitGroup
	var bodies []*io.PipeWriter
	for _, h := range handlers[:most] {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "/v2/app/blobs/uploads/", nil))
		body, write := io.Pipe()
		bodies = append(bodies, write)
		uploads.Go(func() {
			patch := httptest.NewRequest("PATCH", w.Header().Get("Location"), body)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, patch)
			if w.Code != http.StatusAccepted {
				t.Errorf("an upload under way = %d %s, want 202", w.Code, w.Body)
			}
		})
		if _, err := io.WriteString(write, "a layer"); err != nil { // returns when the app reads it
			t.Fatal(err)
		}
	}
	if n := live(apps); n != most {
		t.Errorf("%d apps live, want the %d with an upload", n, most)
	}
	w := httptest.NewRecorder()
	handlers[most].ServeHTTP(w, httptest.NewRequest("GET", "/v2/", nil))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("one context more = %d %v, want 503 and when to try again", w.Code, w.Header())
	}
	w = httptest.NewRecorder()
	handlers[0].ServeHTTP(w, httptest.NewRequest("GET", "/v2/", nil))
	if w.Code != http.StatusOK {
		t.Errorf("another request of a busy context = %d, want 200", w.Code)
	}
	for _, body := range bodies {
		body.Close()
	}
	uploads.Wait()
	if n := live(apps); n != 2 {
		t.Errorf("%d apps live when all uploads have ended, want 2", n)
	}
	if got := ask(t, apps, contextNo(most), "/v2/"); got != http.StatusOK {
		t.Errorf("the context that was refused = %d after that, want 200", got)
	}
}

// Distribution's apps end only when their events have been delivered.
func TestEndpointThatIsAwayHoldsUpNobody(t *testing.T) {
	var isBack atomic.Bool
	delivered := make(chan string, 100)
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isBack.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		event, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		delivered <- string(event)
	}))
	defer endpoint.Close()
	config := withStorage(inFolder(t.TempDir()))
	apps := tenant.New(func() *configuration.Configuration {
		c := config()
		c.Notifications.Endpoints = []configuration.Endpoint{{Name: "test", URL: endpoint.URL, Timeout: time.Minute, Threshold: 1, Backoff: time.Millisecond}}
		return c
	})
	apps.MaxLive = 1
	us, them := newClient(t, apps, mine), newClient(t, apps, theirs)
	us.push("app", []byte("x"))
	them.want(http.StatusOK, "GET", "/v2/", nil) // ends our app
	us.want(http.StatusOK, "GET", "/v2/", nil)
	isBack.Store(true)
	for !strings.Contains(<-delivered, `"tag": "v1"`) {
	}
}

func TestManyAtOnceMakeOneApp(t *testing.T) {
	config := withStorage(inFolder(t.TempDir()))
	var made atomic.Int32
	apps := tenant.New(func() *configuration.Configuration {
		made.Add(1)
		return config()
	})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if got := ask(t, apps, mine, "/v2/"); got != http.StatusOK {
				t.Errorf("GET /v2/ = %d, want 200", got)
			}
		})
	}
	wg.Wait()
	if n := made.Load(); n != 1 {
		t.Errorf("%d apps were made for one context, want 1", n)
	}
}

// What distribution itself leaves behind would be a goroutine for each app.
func TestEndedAppsLeaveNothingBehind(t *testing.T) {
	apps := tenant.New(withStorage(inFolder(t.TempDir())))
	apps.MaxLive = 5
	for i := range 10 {
		ask(t, apps, contextNo(i), "/v2/")
	}
	before, memory := runtime.NumGoroutine(), heap()
	const n = 200
	for i := range n {
		ask(t, apps, contextNo(100+i), "/v2/")
	}
	for i := 0; runtime.NumGoroutine() > before+5 && i < 1000; i++ {
		time.Sleep(time.Millisecond)
	}
	if got := runtime.NumGoroutine(); got > before+5 {
		t.Errorf("%d goroutines after %d more apps, %d before", got, n, before)
	}
	perApp := (heap() - memory) / n
	t.Logf("%d bytes of the heap for each app that has ended", perApp)
	if perApp > 8<<10 {
		t.Errorf("each app that has ended keeps %d bytes", perApp)
	}
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func BenchmarkFirstRequest(b *testing.B) {
	dir := b.TempDir()
	apps := tenant.New(withStorage(inFolder(dir)))
	for i := 0; b.Loop(); i++ {
		app, err := apps.App(contextNo(i))
		if err != nil {
			b.Fatal(err)
		}
		app.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/v2/", nil))
	}
}
