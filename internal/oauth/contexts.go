package oauth

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

// maxContexts is more than anybody works in.
const maxContexts = 10_000

// Contexts returns the ids of the contexts that the identity of token may use
// (GET /context), in the service's order and spelling, each once.
//
// The documented answer is [{"contextId": "context-…"}]. More members are
// ignored, and null is an empty list; an id that is none spoils the answer:
// people are shown these ids, and Docker is bound to them.
func (c *Client) Contexts(ctx context.Context, token secret.String) ([]string, error) {
	q := request{
		op:     "listing the contexts",
		method: http.MethodGet,
		path:   "/context",
		bearer: &token,
	}
	resp, err := c.do(ctx, q)
	if err != nil {
		return nil, err
	}
	var entries []struct {
		ContextID string `json:"contextId"`
	}
	if err := json.Unmarshal(resp.body, &entries); err != nil {
		return nil, resp.fail("the answer is not a list of contexts")
	}
	if len(entries) > maxContexts {
		return nil, resp.fail(fmt.Sprintf("the answer has more than %d contexts", maxContexts))
	}
	var ids []string
	seen := make(map[string]bool, len(entries))
	for _, e := range entries {
		if !IsContextID(e.ContextID) {
			return nil, resp.fail("the answer has an id in it that is no context's")
		}
		if canonical, _ := platform.ContextID(e.ContextID); !seen[canonical] {
			seen[canonical] = true
			ids = append(ids, e.ContextID)
		}
	}
	return ids, nil
}

// IsContextID reports whether s can be a context's id, in either spelling: 8 or
// 24 letters and digits, or a UUID, with or without context- in front. Other
// lengths up to 128 are let pass, other characters are not.
func IsContextID(s string) bool {
	if _, ok := platform.ContextID(s); !ok || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && c != '-' && c != '_' {
			return false
		}
	}
	return s[0] != '-' // nobody's flag
}
