package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// maxBody is the most bytes that a request may carry.
const maxBody = 64 << 10

// failure is an answer that refuses: {"msg"} with a status.
type failure struct {
	status int
	msg    string
}

func (f *failure) Error() string { return f.msg }

func refuse(status int, format string, args ...any) error {
	return &failure{status, fmt.Sprintf(format, args...)}
}

func writeError(w http.ResponseWriter, err error) {
	var (
		f        *failure
		tooLarge *http.MaxBytesError
	)
	switch {
	case errors.As(err, &f):
	case errors.As(err, &tooLarge):
		f = &failure{http.StatusRequestEntityTooLarge, "request too large"}
	default:
		f = &failure{http.StatusInternalServerError, "internal error"}
	}
	if f.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer") // RFC 9110 §11.6.1
	}
	writeJSON(w, f.status, struct {
		Msg string `json:"msg"`
	}{f.msg})
}

// reply answers 200 with v as JSON, which nothing on the way may keep (RFC
// 6749 §5.1).
func reply(w http.ResponseWriter, v any) error {
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, v)
	return nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // fails only if the client has gone
}

// decode reads one JSON object from r's body into v; no body at all leaves v
// as it is. Members that v does not have are ignored, as the platform does.
func decode(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	err := d.Decode(v)
	if err == io.EOF {
		return nil
	}
	if err == nil {
		if _, err = d.Token(); err == io.EOF {
			return nil
		}
	}
	return unreadable(err)
}

// unreadable returns what to say of a body whose reading ended in err.
func unreadable(err error) error {
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return err
	}
	return refuse(http.StatusBadRequest, "the body is not what this call takes")
}
