package tenant

import (
	"io"
	"log/slog"
	"slices"
	"sync/atomic"

	"github.com/sirupsen/logrus"
)

// distribution logs through logrus's one logger of the process, to standard
// error and with each request's whole address and headers in it.
func init() {
	logrus.SetOutput(io.Discard)
	logrus.SetLevel(logrus.WarnLevel)
	logrus.AddHook(hook{})
}

var destination atomic.Pointer[slog.Logger]

// LogTo sends the warnings and errors of all registries of the process to l;
// nil, as at the start, means nowhere. What a client did wrong is no warning.
func LogTo(l *slog.Logger) { destination.Store(l) }

func log() *slog.Logger {
	if l := destination.Load(); l != nil {
		return l
	}
	return slog.New(slog.DiscardHandler)
}

// fields are those of distribution's that hold no secret.
var fields = []string{
	"vars.name", "vars.reference", "vars.digest", "vars.uuid",
	"http.request.id", "http.request.method", "http.response.status",
	"err.code", "err.message", "err.detail",
}

// hook passes distribution's log entries on.
type hook struct{}

func (hook) Levels() []logrus.Level { return logrus.AllLevels[:logrus.WarnLevel+1] }

func (hook) Fire(e *logrus.Entry) error {
	if status, answered := e.Data["http.response.status"].(int); answered && status < 500 {
		return nil
	}
	var attrs []any
	for name, value := range e.Data {
		if slices.Contains(fields, name) {
			attrs = append(attrs, slog.Any(name, value))
		}
	}
	level := slog.LevelError
	if e.Level == logrus.WarnLevel {
		level = slog.LevelWarn
	}
	log().Log(e.Context, level, e.Message, attrs...)
	return nil
}
