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

// isRefusal reports whether status is the service's word on the key: that it is
// malformed (400, 422), unknown (401) or may not (403). Any other, such as the
// 404 of a wrong address, says nothing about it.
func isRefusal(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity:
		return true
	}
	return false
}
