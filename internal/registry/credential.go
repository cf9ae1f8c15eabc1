package registry

import (
	"encoding/base64"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

// maxAPIKeySize is in bytes, and keeps what is no key, such as a token, away
// from the identity service.
const maxAPIKeySize = 256

// A credential is what a request proves itself with.
type credential struct {
	kind      kind
	secret    secret.String
	contextID string // the one asked for with an API key; "" means the key's own
}

type kind string

const (
	kindToken  kind = "token"
	kindAPIKey kind = "API key"
)

// parseAuthorization reads the header's value (RFC 9110 §11.6.2): Bearer with
// a token (RFC 6750), or Basic (RFC 7617) with one of the platform's users.
func parseAuthorization(value string) (credential, error) {
	scheme, rest, _ := strings.Cut(value, " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		return newCredential(kindToken, rest)
	case strings.EqualFold(scheme, "Basic"):
		return parseBasic(rest)
	}
	return credential{}, errors.New("the Authorization scheme is neither Basic nor Bearer")
}

func parseToken(value string) (credential, error) { return newCredential(kindToken, value) }

func parseAPIKey(value string) (credential, error) { return newCredential(kindAPIKey, value) }

func parseBasic(encoded string) (credential, error) {
	pair, err := decodeBase64(strictBase64, encoded)
	if err != nil {
		return credential{}, errors.New("the Basic credential is not base64")
	}
	user, password, found := strings.Cut(string(pair), ":") // the password may hold more of them
	if !found {
		return credential{}, errors.New("the Basic credential has no password")
	}
	switch user {
	case "bearer":
		return newCredential(kindToken, password)
	case "apikey":
		return newCredential(kindAPIKey, password)
	}
	return credential{}, errors.New(`the user name is neither "bearer", for a token, nor "apikey", for an API key`)
}

// Encodings that take no bits set behind the last byte.
var (
	strictBase64    = base64.StdEncoding.Strict()
	strictBase64URL = base64.RawURLEncoding.Strict()
)

// decodeBase64 takes text in its one spelling only. Even a strict encoding
// skips line breaks.
func decodeBase64(strict *base64.Encoding, text string) ([]byte, error) {
	for _, lineBreak := range []byte("\r\n") {
		if i := strings.IndexByte(text, lineBreak); i >= 0 {
			return nil, base64.CorruptInputError(i)
		}
	}
	return strict.DecodeString(text)
}

func newCredential(k kind, text string) (credential, error) {
	switch {
	case text == "":
		return credential{}, errors.New("the " + string(k) + " is empty")
	case !utf8.ValidString(text):
		return credential{}, errors.New("the " + string(k) + " is not UTF-8")
	case k == kindAPIKey && len(text) > maxAPIKeySize:
		return credential{}, errors.New("the API key is too long to be one")
	}
	return credential{kind: k, secret: secret.String(text)}, nil
}
