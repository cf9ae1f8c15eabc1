package observe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
)

func (w *world) scrape(t testing.TB) string {
	t.Helper()
	answer := httptest.NewRecorder()
	w.Metrics().ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	if answer.Code != http.StatusOK {
		t.Fatalf("metrics: %d %s", answer.Code, answer.Body)
	}
	return answer.Body.String()
}

// ask makes requests of every kind.
func (w *world) ask(t testing.TB) {
	t.Helper()
	w.auth.Exchange = func(context.Context, string, string) (string, error) { return "", errors.New("away") }
	h := w.serve(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			w.WriteHeader(http.StatusAccepted)
		}
	})
	key := func(r *http.Request, set func(*http.Request)) *http.Request { set(r); return r }
	for _, r := range []*http.Request{
		request("GET", "/v2/", ""),
		request("GET", "/v2/", token(t, alice)),
		request("GET", blob, token(t, alice)),
		request("GET", blob, token(t, mallory)),
		request("DELETE", blob, token(t, alice)),
		request("PUT", "/v2/app/manifests/latest", "nonsense"),
		request("INVENTED", blob, token(t, alice)),
		request("GET", "/elsewhere", ""),
		request("GET", blob+"?apiKey=one", ""),
		key(request("GET", blob, ""), func(r *http.Request) { r.Header.Set("X-Api-Key", "two") }),
		key(request("GET", blob, ""), func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "dtz-auth", Value: token(t, alice)}) }),
		key(request("GET", blob, ""), func(r *http.Request) { r.Header["Authorization"] = []string{"Basic", "Basic"} }),
	} {
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
}

func TestRequestsAreCounted(t *testing.T) {
	w := newWorld(t)
	w.ask(t)
	err := testutil.GatherAndCompare(w.registry, strings.NewReader(`
# HELP dtz_registry_requests_total Requests that have ended, by what they were to do, what became of them and the class of the status.
# TYPE dtz_registry_requests_total counter
dtz_registry_requests_total{action="admin",code="2xx",outcome="allowed"} 1
dtz_registry_requests_total{action="delete",code="2xx",outcome="allowed"} 1
dtz_registry_requests_total{action="none",code="2xx",outcome="allowed"} 1
dtz_registry_requests_total{action="none",code="4xx",outcome="challenged"} 1
dtz_registry_requests_total{action="none",code="4xx",outcome="undecided"} 1
dtz_registry_requests_total{action="pull",code="2xx",outcome="allowed"} 2
dtz_registry_requests_total{action="pull",code="4xx",outcome="denied"} 1
dtz_registry_requests_total{action="pull",code="4xx",outcome="malformed"} 1
dtz_registry_requests_total{action="pull",code="5xx",outcome="unavailable"} 2
dtz_registry_requests_total{action="push",code="4xx",outcome="refused"} 1
# HELP dtz_registry_credentials_total Requests that have ended, by where their credential was and what became of them.
# TYPE dtz_registry_credentials_total counter
dtz_registry_credentials_total{outcome="allowed",source="Authorization header"} 4
dtz_registry_credentials_total{outcome="allowed",source="dtz-auth cookie"} 1
dtz_registry_credentials_total{outcome="challenged",source="none"} 1
dtz_registry_credentials_total{outcome="denied",source="Authorization header"} 1
dtz_registry_credentials_total{outcome="malformed",source="Authorization header"} 1
dtz_registry_credentials_total{outcome="refused",source="Authorization header"} 1
dtz_registry_credentials_total{outcome="unavailable",source="X-API-KEY header"} 1
dtz_registry_credentials_total{outcome="unavailable",source="apiKey in the query"} 1
# HELP dtz_registry_requests_in_flight Requests under way.
# TYPE dtz_registry_requests_in_flight gauge
dtz_registry_requests_in_flight 0
# HELP dtz_registry_build_info 1, with the version of dtz-registry.
# TYPE dtz_registry_build_info gauge
dtz_registry_build_info{version="1.2.3"} 1
`), "dtz_registry_requests_total", "dtz_registry_credentials_total", "dtz_registry_requests_in_flight", "dtz_registry_build_info")
	if err != nil {
		t.Error(err)
	}
}

// Each figure has its own number, so that no two can be confused.
func TestFiguresOfTheOthers(t *testing.T) {
	o := New(Options{
		Stats: func() registry.Stats {
			return registry.Stats{
				TokenHits: 1, TokenMisses: 2, KeyHits: 3, Exchanges: 4, ExchangesRefused: 5, ExchangesFailed: 6, Limited: 7, Waiting: 8,
				Tokens: registry.CacheSize{Entries: 9, Bytes: 10}, APIKeys: registry.CacheSize{Entries: 11, Bytes: 12}, Refusals: registry.CacheSize{Entries: 13, Bytes: 14},
			}
		},
		Apps: func() (int, int) { return 15, 16 },
	})
	page := (&world{Observer: o}).scrape(t)
	for _, want := range []string{
		"token_hits_total 1", "token_misses_total 2", "api_key_hits_total 3", "exchanges_total 4", "exchanges_refused_total 5",
		"exchanges_failed_total 6", "limited_total 7", "exchanges_waiting 8",
		`cache_entries{cache="tokens"} 9`, `cache_bytes{cache="tokens"} 10`,
		`cache_entries{cache="api_keys"} 11`, `cache_bytes{cache="api_keys"} 12`,
		`cache_entries{cache="refusals"} 13`, `cache_bytes{cache="refusals"} 14`,
		"apps 15", "apps_evicted_total 16",
	} {
		if !strings.Contains(page, "\ndtz_registry_"+want+"\n") {
			t.Errorf("the metrics do not have %s", want)
		}
	}
	for _, want := range []string{"\ngo_goroutines ", "\nprocess_start_time_seconds "} {
		if !strings.Contains(page, want) {
			t.Errorf("the metrics do not have%s", want)
		}
	}
}

// A verifier alone has no registries to report.
func TestWithoutApps(t *testing.T) {
	page := (&world{Observer: New(Options{})}).scrape(t)
	for _, name := range []string{"dtz_registry_apps", "dtz_registry_exchanges"} {
		if strings.Contains(page, name) {
			t.Errorf("the metrics have %s, of which nothing is known", name)
		}
	}
}

func TestConventions(t *testing.T) {
	w := newWorld(t)
	w.ask(t)
	problems, err := testutil.GatherAndLint(w.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// Strangers can make as many requests as they like, but no label.
func TestLabelsAreOfListsInTheCode(t *testing.T) {
	w := newWorld(t)
	w.ask(t)
	h := w.serve(func(w http.ResponseWriter, r *http.Request) {
		var status int
		_, _ = fmt.Sscan(r.Header.Get("Want"), &status)
		w.WriteHeader(status)
	})
	for i := range 200 {
		name := fmt.Sprintf("name%d", i)
		r := request("M"+name, "/v2/"+name+"/blobs/uploads/"+name, token(t, alice))
		r.Header.Set("Want", fmt.Sprint(200+4*i))
		r.Header.Set("User-Agent", name)
		r.Header.Set("X-Request-Id", name)
		r.Header.Set("Cookie", name+"=1")
		h.ServeHTTP(httptest.NewRecorder(), r)
		r = request(name, "/v2/"+name+"/tags/list?"+name, name)
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var outcomes []string
	for _, row := range rows(t, "| outcome | status | |") {
		outcomes = append(outcomes, row[0])
	}
	lists := map[string][]string{
		"action":  {"pull", "push", "delete", "admin", "none"},
		"outcome": outcomes,
		"code":    {"1xx", "2xx", "3xx", "4xx", "5xx", "none"},
		"source":  {"Authorization header", "X-API-KEY header", "dtz-auth cookie", "apiKey in the query", "none"},
		"cache":   {"tokens", "api_keys", "refusals"},
		"version": {"1.2.3"},
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), prefix) {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, label := range m.GetLabel() {
				if !slices.Contains(lists[label.GetName()], label.GetValue()) {
					t.Errorf("%s has the label %s", f.GetName(), label)
				}
			}
		}
	}
}

const operationDoc = "../../../docs/operation.md"

// rows are the first columns of the table in the document that begins with the
// header, without their quotes.
func rows(t *testing.T, header string) (table [][]string) {
	t.Helper()
	text, err := os.ReadFile(operationDoc)
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n"+header+"\n")
	if !found {
		t.Fatalf("%s has no table %s", operationDoc, header)
	}
	section, _, _ = strings.Cut(section, "\n\n")
	for _, row := range strings.Split(strings.TrimSpace(section), "\n")[1:] {
		var cells []string
		for cell := range strings.SplitSeq(strings.Trim(row, "| "), " | ") {
			cells = append(cells, strings.Trim(cell, "` "))
		}
		table = append(table, cells)
	}
	return table
}

// The document has each metric, as it describes itself.
func TestDocumentHasTheMetrics(t *testing.T) {
	w := newWorld(t)
	w.ask(t)
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), prefix) {
			continue
		}
		var labels []string
		for _, label := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, label.GetName())
		}
		kind := strings.ToLower(f.GetType().String())
		want = append(want, fmt.Sprintf("| `%s` | %s | %s | %s |", f.GetName(), kind, strings.Join(labels, ", "), f.GetHelp()))
	}
	var got []string
	for _, row := range rows(t, "| metric | kind | labels | |") {
		got = append(got, fmt.Sprintf("| `%s` | %s |", row[0], strings.Join(row[1:], " | ")))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s has the metrics\n%s\nwant\n%s", operationDoc, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
