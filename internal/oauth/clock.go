package oauth

import (
	"context"
	"net/http"
	"time"
)

// Clock asks the service for the time, to the second: the Date of whatever it
// answers (RFC 9110 §6.6.1), the zero time if there is none. It sends no
// credential. A service that answers that it is out of order, 429 or 5xx, has a
// clock all the same: then both results are there.
func (c *Client) Clock(ctx context.Context) (time.Time, error) {
	q := request{op: "asking for the time", method: http.MethodHead, path: "/context"}
	base, err := CheckBaseURL(c.BaseURL)
	if err != nil {
		return time.Time{}, q.fail("identity service: " + err.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var conn connection
	ctx = conn.watch(ctx)
	req, failed := c.newRequest(ctx, base, q)
	if failed != nil {
		return time.Time{}, failed
	}
	resp, err := c.client().Do(req)
	if err != nil {
		failed := q.broken(ctx, err)
		failed.Unconnected = failed.Unreachable() && conn.failed()
		return time.Time{}, failed
	}
	_ = resp.Body.Close()
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		date = time.Time{}
	}
	if e := (&Error{Op: q.op, Status: resp.StatusCode}); e.Unreachable() {
		return date, e
	}
	return date, nil
}
