package store

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

// Method is how a login was made.
type Method string

const (
	Password Method = "password" // user name and password
	APIKey   Method = "apikey"   // an API key that the user brought
	KeptKey  Method = "kept-key" // an API key that login --keep had made for this machine
	Browser  Method = "browser"  // login --web
	Adopted  Method = "token"    // a token that came through docker login
)

// Login is who, how and the secret.
type Login struct {
	Method  Method
	User    string // as typed at login; empty for keys and adopted tokens
	Subject string // identity id, claim sub
	Context string // the context that tokens are for unless a binding says otherwise
	// Key is the API key of the methods APIKey and KeptKey. The login lasts as
	// long as the key.
	Key secret.String
	// Alias is the name of a kept key at the identity service.
	Alias string
	// Tokens are the newest tokens, one for each context in use. For the other
	// methods any of them that is still valid can be exchanged for a new one of
	// any context; once all have expired, so has the login.
	Tokens []Token
}

// Token is a JWT as received.
type Token struct {
	Context  string
	Access   secret.String
	Received time.Time     // by this machine's clock
	Lifetime time.Duration // from receipt
}

// Expires is when t ends, by this machine's clock.
func (t Token) Expires() time.Time { return t.Received.Add(t.Lifetime) }

// Valid reports whether t has not ended.
func (t Token) Valid(now time.Time) bool { return t.Access != "" && now.Before(t.Expires()) }

// Token returns the token for a context, the zero Token if there is none.
func (l *Login) Token(contextID string) Token {
	for _, t := range l.Tokens {
		if platform.SameContext(t.Context, contextID) {
			return t
		}
	}
	return Token{}
}

// Newest returns the token that expires last, the zero Token if there is none.
func (l *Login) Newest() Token {
	var newest Token
	for _, t := range l.Tokens {
		if newest.Access == "" || t.Expires().After(newest.Expires()) {
			newest = t
		}
	}
	return newest
}

// SetToken replaces the token of t's context, and drops those of other
// contexts that have ended by then: they serve nobody and would make the record
// grow.
func (l *Login) SetToken(t Token) {
	l.Tokens = slices.DeleteFunc(l.Tokens, func(old Token) bool {
		return platform.SameContext(old.Context, t.Context) || !old.Valid(t.Received)
	})
	l.Tokens = append(l.Tokens, t)
}

// record is a login at rest, in JSON. It is the one place where its secrets are
// revealed.
type record struct {
	Version int           `json:"v"`
	Method  Method        `json:"method"`
	User    string        `json:"user,omitempty"`
	Subject string        `json:"sub"`
	Context string        `json:"context"`
	Key     string        `json:"key,omitempty"`
	Alias   string        `json:"alias,omitempty"`
	Tokens  []tokenRecord `json:"tokens,omitempty"`
}

type tokenRecord struct {
	Context  string `json:"context"`
	Access   string `json:"token"`
	Received int64  `json:"received"` // seconds since the epoch
	Lifetime int64  `json:"lifetime"` // seconds
}

const recordVersion = 1

func (t Token) record() tokenRecord {
	return tokenRecord{t.Context, t.Access.Reveal(), t.Received.Unix(), int64(t.Lifetime / time.Second)}
}

func (r tokenRecord) token() (Token, error) {
	const (
		century = 100 * 365 * 24 * 3600
		noClock = 1 << 40 // seconds: beyond what clocks show, wrong ones too, before 1970 or after
	)
	if r.Access == "" || !isWord(r.Access) || r.Lifetime < 0 || r.Lifetime > century || r.Received < -noClock || r.Received > noClock {
		return Token{}, errors.New("a token in it makes no sense")
	}
	return Token{r.Context, secret.String(r.Access), time.Unix(r.Received, 0), time.Duration(r.Lifetime) * time.Second}, nil
}

// isWord reports whether s can stand in a header and on a line: whoever can write
// where logins lie gets nothing else to either.
func isWord(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

func (l *Login) encode() ([]byte, error) {
	r := record{recordVersion, l.Method, l.User, l.Subject, l.Context, l.Key.Reveal(), l.Alias, nil}
	for _, t := range l.Tokens {
		r.Tokens = append(r.Tokens, t.record())
	}
	return json.Marshal(r)
}

// decodeLogin never quotes what it reads: it is secret.
func decodeLogin(data []byte) (*Login, error) {
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, errors.New("not a record of this program")
	}
	if r.Version != recordVersion {
		return nil, errors.New("another version of this program wrote it")
	}
	l := &Login{r.Method, r.User, r.Subject, r.Context, secret.String(r.Key), r.Alias, nil}
	for _, tr := range r.Tokens {
		t, err := tr.token()
		if err != nil {
			return nil, err
		}
		l.Tokens = append(l.Tokens, t)
	}
	if !isWord(r.Key) {
		return nil, errors.New("a key in it makes no sense")
	}
	if l.Key == "" && len(l.Tokens) == 0 {
		return nil, errors.New("it holds neither key nor token")
	}
	return l, nil
}
