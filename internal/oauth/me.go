package oauth

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

// Email returns the address of the identity that token belongs to (GET
// /me/email), or "" if it has none.
func (c *Client) Email(ctx context.Context, token secret.String) (string, error) {
	q := request{op: "asking who that is", method: http.MethodGet, path: "/me/email", bearer: &token}
	resp, err := c.do(ctx, q)
	if e, ok := err.(*Error); ok && e.Status == http.StatusNotFound {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var me struct {
		Email string `json:"email"`
	}
	if json.Unmarshal(resp.body, &me) != nil || printable(me.Email) != me.Email {
		return "", resp.fail("the answer is no e-mail address")
	}
	return me.Email, nil
}
