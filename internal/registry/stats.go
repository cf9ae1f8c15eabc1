package registry

import "sync/atomic"

// Stats counts what an [Authenticator] has done since it was made, and what it
// holds at present.
type Stats struct {
	TokenHits   uint64 // tokens that were remembered
	TokenMisses uint64 // tokens that were verified, good or bad
	KeyHits     uint64 // API keys of which the outcome was remembered

	Exchanges        uint64 // begun
	ExchangesRefused uint64 // of these, for a key that the identity service refused
	ExchangesFailed  uint64 // of these, without an answer, or with a token that is not good here
	Limited          uint64 // requests that were refused with 429

	Waiting  int       // unknown API keys that wait for their exchange
	Tokens   CacheSize // that are remembered
	APIKeys  CacheSize // that are remembered as accepted
	Refusals CacheSize // of API keys
}

// CacheSize is how much a cache holds.
type CacheSize struct{ Entries, Bytes int }

// counters has a field for each of those of [Stats].
type counters struct {
	tokenHits, tokenMisses, keyHits              atomic.Uint64
	exchanges, exchangesRefused, exchangesFailed atomic.Uint64
	limited                                      atomic.Uint64
}

// Stats returns the present figures. They are read one after another, and need
// not fit each other while requests are being served.
func (a *Authenticator) Stats() Stats {
	return Stats{
		TokenHits:        a.counters.tokenHits.Load(),
		TokenMisses:      a.counters.tokenMisses.Load(),
		KeyHits:          a.counters.keyHits.Load(),
		Exchanges:        a.counters.exchanges.Load(),
		ExchangesRefused: a.counters.exchangesRefused.Load(),
		ExchangesFailed:  a.counters.exchangesFailed.Load(),
		Limited:          a.counters.limited.Load(),
		Waiting:          a.unknowns.length(),
		Tokens:           a.tokens.stat(),
		APIKeys:          a.keys.stat(),
		Refusals:         a.refused.stat(),
	}
}
