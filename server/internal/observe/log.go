package observe

import (
	"context"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// How much of what a client says is logged, in bytes.
const (
	maxMethod     = 16
	maxPath       = 512
	maxRepository = 256
	maxReason     = 512
	maxUserAgent  = 128
)

// log writes the line of a request that has ended. Fields that say nothing are
// left out.
func (o *Observer) log(rec *record) {
	level := rec.level()
	ctx := context.Background() // the request's has ended
	if !o.options.Log.Enabled(ctx, level) {
		return
	}
	line := make([]slog.Attr, 0, 17)
	add := func(name, value string, limit int) {
		if value != "" {
			line = append(line, slog.String(name, cut(redact(value), limit)))
		}
	}
	d := rec.decision
	line = append(line, slog.String("request_id", rec.id))
	if d.Profile != nil { // identifiers, whose length the verifier limits
		line = append(line, slog.String("identity", d.Profile.Subject), slog.String("context", d.Profile.Context))
	}
	add("repository", d.Repository, maxRepository)
	add("action", string(d.Action), maxMethod)
	add("source", d.Source, maxReason)
	add("method", rec.method, maxMethod)
	add("path", pathOnly(rec.path), maxPath)
	line = append(line, slog.Int("status", rec.status), slog.String("outcome", rec.outcome()))
	add("reason", rec.reason(), maxReason)
	line = append(line,
		slog.Int64("bytes_in", rec.received.Load()),
		slog.Int64("bytes_out", rec.sent),
		slog.Float64("duration_seconds", rec.duration.Round(time.Microsecond).Seconds()),
	)
	if rec.client.IsValid() {
		line = append(line, slog.String("client", rec.client.String()))
	}
	add("user_agent", rec.userAgent, maxUserAgent)
	o.options.Log.LogAttrs(ctx, level, "request", line...)
}

// level is warn for what could not be checked or served at the moment, and
// error for what should not happen. A client that is refused, or goes away, is
// everyday.
func (rec *record) level() slog.Level {
	switch {
	case rec.panicked:
		return slog.LevelError
	case rec.status == http.StatusServiceUnavailable || rec.outcome() == "unavailable":
		return slog.LevelWarn
	case rec.status >= 500:
		return slog.LevelError
	}
	return slog.LevelInfo
}

func (rec *record) reason() string {
	switch {
	case rec.panicked:
		return "panic" // what it says the server logs, with the stack
	case rec.decision.Err != nil:
		return rec.decision.Err.Error()
	}
	return ""
}

// pathOnly is path without what a client has made part of it that escaped the
// question mark, which may be a key. No path of the registry's API has such
// characters.
func pathOnly(path string) string {
	if i := strings.IndexAny(path, "?&;#"); i >= 0 {
		return path[:i] + "…"
	}
	return path
}

// credential is what tokens, API keys and Basic credentials of ours look like.
// People paste them where they do not belong, such as into a path.
var credential = regexp.MustCompile(`eyJ[\w-]{16,}[\w.-]*|(?:YmVhcmVyO|YXBpa2V5O)[\w+/=-]*|apikey-(?:[[:xdigit:]]{8}(?:-[[:xdigit:]]{4}){3}-[[:xdigit:]]{12}|[a-z0-9]{24}|[a-z0-9]{8})\b`)

func redact(s string) string { return credential.ReplaceAllString(s, "[redacted]") }

// cut is s, or as many of its characters as have room in limit bytes.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "…"
}
