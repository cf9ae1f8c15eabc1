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
// nil, as at the start, means nowhere. Of a request it is an error when it ends
// in 500 or more; what is logged on the way there, or on the way to telling a
// client what it did wrong, is for debugging.
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
	var attrs []any
	for name, value := range e.Data {
		if slices.Contains(fields, name) {
			attrs = append(attrs, slog.Any(name, value))
		}
	}
	log().Log(e.Context, level(e), e.Message, attrs...)
	return nil
}

func level(e *logrus.Entry) slog.Level {
	_, isOfRequest := e.Data["http.request.method"]
	status, isAnswered := e.Data["http.response.status"].(int)
	switch {
	case isOfRequest && (!isAnswered || status < 500):
		return slog.LevelDebug
	case e.Level == logrus.WarnLevel:
		return slog.LevelWarn
	}
	return slog.LevelError
}
