package gate

import (
	"context"
	"errors"
	"net/http"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/oauth"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/registry"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

// Exchange trades API keys at the identity service, as
// [registry.Authenticator] wants it.
func Exchange(client *oauth.Client) func(ctx context.Context, apiKey, contextID string) (string, error) {
	return func(ctx context.Context, apiKey, contextID string) (string, error) {
		token, err := client.APIKey(ctx, secret.String(apiKey), contextID)
		if e, ok := errors.AsType[*oauth.Error](err); ok && isRefusal(e.Status) {
			return "", registry.ErrKeyRefused
		}
		return token.Access.Reveal(), err
	}
}

// isRefusal reports whether status is for good, so that the same key is no
// better later: a key may also be malformed (400, 422) or gone (404).
func isRefusal(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return status/100 == 4
}
