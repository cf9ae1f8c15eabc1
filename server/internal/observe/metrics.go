package observe

import (
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
)

const prefix = "dtz_registry_"

// metrics are those of requests. Their labels come from lists in the code,
// never from a client.
type metrics struct {
	requests    *prometheus.CounterVec
	credentials *prometheus.CounterVec
	inFlight    prometheus.Gauge
	durations   *prometheus.HistogramVec
	decisions   prometheus.Histogram
}

func newMetrics(r *prometheus.Registry, o Options) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "requests_total",
			Help: "Requests that have ended, by what they were to do, what became of them and the class of the status.",
		}, []string{"action", "outcome", "code"}),
		credentials: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "credentials_total",
			Help: "Requests that have ended, by where their credential was and what became of them.",
		}, []string{"source", "outcome"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "requests_in_flight",
			Help: "Requests under way.",
		}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    prefix + "request_duration_seconds",
			Help:    "Time from the header of a request to the end of the answer, by what it was to do.",
			Buckets: []float64{.001, .005, .025, .1, .5, 2.5, 10, 60, 300, 1800},
		}, []string{"action"}),
		decisions: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    prefix + "decision_duration_seconds",
			Help:    "Time from the header of a request to the decision whether it is let through.",
			Buckets: []float64{.00005, .0001, .0005, .001, .005, .025, .1, .5, 1, 5, 10},
		}),
	}
	r.MustRegister(
		m.requests, m.credentials, m.inFlight, m.durations, m.decisions,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        prefix + "build_info",
			Help:        "1, with the version of dtz-registry.",
			ConstLabels: prometheus.Labels{"version": o.Version},
		}, func() float64 { return 1 }),
	)
	if o.Stats != nil {
		r.MustRegister(statsCollector(o.Stats))
	}
	if o.Apps != nil {
		r.MustRegister(appsCollector(o.Apps))
	}
	return m
}

// Metrics answers with the metrics in the format of Prometheus.
func (o *Observer) Metrics() http.Handler {
	return promhttp.HandlerFor(o.registry, promhttp.HandlerOpts{
		ErrorLog:      slog.NewLogLogger(o.options.Log.Handler(), slog.LevelError),
		ErrorHandling: promhttp.ContinueOnError,
	})
}

func (m *metrics) count(rec *record) {
	action, outcome := actionLabel(rec.decision.Action), rec.outcome()
	m.requests.WithLabelValues(action, outcome, codeLabel(rec.status)).Inc()
	m.durations.WithLabelValues(action).Observe(rec.duration.Seconds())
	if rec.decided {
		m.credentials.WithLabelValues(sourceLabel(rec.decision.Source), outcome).Inc()
	}
}

func actionLabel(a registry.Action) string {
	if a == "" {
		return "none"
	}
	return string(a)
}

func sourceLabel(source string) string {
	if source == "" {
		return "none"
	}
	return source
}

func codeLabel(status int) string {
	switch status / 100 {
	case 1:
		return "1xx"
	case 2:
		return "2xx"
	case 3:
		return "3xx"
	case 4:
		return "4xx"
	case 5:
		return "5xx"
	}
	return "none"
}

// desc describes a metric that is read when somebody asks for it.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prefix+name, help, labels, nil)
}

var (
	tokenHits        = desc("token_hits_total", "Tokens that were remembered.")
	tokenMisses      = desc("token_misses_total", "Tokens that had to be verified, good or bad.")
	keyHits          = desc("api_key_hits_total", "API keys of which the outcome was remembered.")
	exchanges        = desc("exchanges_total", "Exchanges of API keys at the identity service, begun.")
	exchangesRefused = desc("exchanges_refused_total", "Exchanges for a key that the identity service refused.")
	exchangesFailed  = desc("exchanges_failed_total", "Exchanges without an answer, or with a token that is not good here.")
	exchangesWaiting = desc("exchanges_waiting", "Unknown API keys that wait for their exchange.")
	limited          = desc("limited_total", "Requests refused with 429, because too many unknown API keys were waiting.")
	cacheEntries     = desc("cache_entries", "What is remembered: tokens, API keys that were accepted, and refusals of API keys.", "cache")
	cacheBytes       = desc("cache_bytes", "Memory for what is remembered, in bytes.", "cache")
)

// A statsCollector reads the figures of an [registry.Authenticator], once for
// each scrape.
type statsCollector func() registry.Stats

func (statsCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		tokenHits, tokenMisses, keyHits, exchanges, exchangesRefused, exchangesFailed,
		exchangesWaiting, limited, cacheEntries, cacheBytes,
	} {
		ch <- d
	}
}

func (c statsCollector) Collect(ch chan<- prometheus.Metric) {
	s := c()
	counter := func(d *prometheus.Desc, n uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n))
	}
	gauge := func(d *prometheus.Desc, n int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	counter(tokenHits, s.TokenHits)
	counter(tokenMisses, s.TokenMisses)
	counter(keyHits, s.KeyHits)
	counter(exchanges, s.Exchanges)
	counter(exchangesRefused, s.ExchangesRefused)
	counter(exchangesFailed, s.ExchangesFailed)
	counter(limited, s.Limited)
	gauge(exchangesWaiting, s.Waiting)
	for _, cache := range []struct {
		name string
		size registry.CacheSize
	}{{"tokens", s.Tokens}, {"api_keys", s.APIKeys}, {"refusals", s.Refusals}} {
		gauge(cacheEntries, cache.size.Entries, cache.name)
		gauge(cacheBytes, cache.size.Bytes, cache.name)
	}
}

var (
	apps        = desc("apps", "Registries of contexts that are in memory.")
	appsEvicted = desc("apps_evicted_total", "Registries of contexts that were ended, to make room or because they were idle.")
)

// An appsCollector reads how many registries there are.
type appsCollector func() (live, evicted int)

func (appsCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- apps
	ch <- appsEvicted
}

func (c appsCollector) Collect(ch chan<- prometheus.Metric) {
	live, evicted := c()
	ch <- prometheus.MustNewConstMetric(apps, prometheus.GaugeValue, float64(live))
	ch <- prometheus.MustNewConstMetric(appsEvicted, prometheus.CounterValue, float64(evicted))
}
