package registry

import (
	"fmt"
	"net/http"
)

// Each way to authenticate has an identity of its own here, so that one sees
// who has decided.
type way struct {
	source    string
	name      string
	set       func(r *request, value string)
	good, bad string
	identity  string
	refused   string // the message for bad
}

func ways() []way {
	authorization := func(r *request, value string) { r.header["Authorization"] = []string{value} }
	return []way{
		{"Authorization", "Basic token", authorization, basic("bearer", tokenOf("identity-token000", keyContexts[0])), basic("bearer", forgedToken()), "identity-token000", refusedText},
		{"Authorization", "Basic API key", authorization, basic("apikey", "apikey-basic000"), basic("apikey", "apikey-zzz99999"), "identity-basic000", refusedKey},
		{"Authorization", "Bearer token", authorization, "Bearer " + tokenOf("identity-bearer00", keyContexts[0]), "Bearer " + expiredToken(), "identity-bearer00", expiredText},
		{"X-API-KEY", "X-API-KEY", func(r *request, value string) { r.header["X-Api-Key"] = []string{value} }, "apikey-header00", "apikey-zzz99999", "identity-header00", refusedKey},
		{"cookie", "cookie", func(r *request, value string) { r.header["Cookie"] = []string{"dtz-auth=" + value} }, tokenOf("identity-cookie00", keyContexts[0]), forgedToken(), "identity-cookie00", refusedText},
		{"query", "query", func(r *request, value string) { r.query = "apiKey=" + value }, "apikey-query000", "apikey-zzz99999", "identity-query000", refusedKey},
	}
}

// decides says which of two sources does: first under OrderExplicit, then under
// OrderPlatform.
var decides = map[[2]string][2]string{
	{"Authorization", "X-API-KEY"}: {"Authorization", "Authorization"},
	{"Authorization", "cookie"}:    {"Authorization", "cookie"},
	{"Authorization", "query"}:     {"Authorization", "Authorization"},
	{"X-API-KEY", "cookie"}:        {"X-API-KEY", "cookie"},
	{"X-API-KEY", "query"}:         {"X-API-KEY", "X-API-KEY"},
	{"cookie", "query"}:            {"cookie", "cookie"},
}

var methods = []string{
	http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodPatch, http.MethodDelete, http.MethodOptions,
}

// pairs are all ways alone and all two of different sources, good and bad, by
// every method.
func pairs() (all []request) {
	for _, method := range methods {
		for i, a := range ways() {
			for _, aGood := range []bool{true, false} {
				alone := request{name: fmt.Sprintf("%s with a %s", method, a.called(aGood)), method: method, header: http.Header{}}
				a.put(&alone, aGood)
				alone.explicit = a.answer(aGood)
				alone.platform = alone.explicit
				all = append(all, alone)
				for _, b := range ways()[i+1:] {
					order, ok := decides[[2]string{a.source, b.source}]
					for _, bGood := range []bool{true, false} {
						if !ok { // of one source
							break
						}
						both := request{name: fmt.Sprintf("%s and a %s", alone.name, b.called(bGood)), method: method, header: http.Header{}}
						a.put(&both, aGood)
						b.put(&both, bGood)
						answers := map[string]answer{a.source: a.answer(aGood), b.source: b.answer(bGood)}
						both.explicit, both.platform = answers[order[0]], answers[order[1]]
						all = append(all, both)
					}
				}
			}
		}
	}
	return all
}

func (w way) called(good bool) string {
	if good {
		return "good " + w.name
	}
	return "bad " + w.name
}

func (w way) put(r *request, good bool) {
	if good {
		w.set(r, w.good)
		return
	}
	w.set(r, w.bad)
}

func (w way) answer(good bool) answer {
	if good {
		return answer{200, w.identity + " in " + keyContexts[0]}
	}
	return answer{401, w.refused}
}

// mixedRequests have what is no credential beside one, or a context beside a
// credential that it does not belong to.
func mixedRequests() []request {
	token, forged := "Bearer "+goodToken(), "dtz-auth="+forgedToken()
	letIn := answer{200, owner}
	refused := answer{401, refusedText}
	twice := answer{400, "more than one dtz-auth cookie"}
	type h = http.Header
	mixed := []request{
		{"an empty cookie and a token", "", h{"Cookie": {"dtz-auth="}, "Authorization": {token}}, "", letIn, letIn, cookieHides},
		{"other cookies and a token", "", h{"Cookie": {"theme=dark"}, "Authorization": {token}}, "", letIn, letIn, cookieHides},
		{"other cookies and X-API-KEY", "", h{"Cookie": {"theme=dark"}, "X-Api-Key": {goodKey}}, "", letIn, letIn, cookieHides},
		{"other cookies and the query", "", h{"Cookie": {"theme=dark"}}, "apiKey=" + goodKey, letIn, letIn, cookieHides},
		{"a malformed cookie and a token", "", h{"Cookie": {"theme"}, "Authorization": {token}}, "", letIn, letIn, panics},
		{"a foreign dtz-auth cookie and a token", "", h{"Cookie": {forged}, "Authorization": {token}}, "", letIn, refused, same},
		{"two dtz-auth cookies and a token", "", h{"Cookie": {forged + "; " + forged}, "Authorization": {token}}, "", letIn, twice, same},
		{"an empty Authorization and X-API-KEY", "", h{"Authorization": {""}, "X-Api-Key": {goodKey}}, "", letIn, letIn, emptyHides},
		{"an empty Authorization and the cookie", "", h{"Authorization": {""}, "Cookie": {"dtz-auth=" + goodToken()}}, "", letIn, letIn, same},
		{"an empty Authorization and the query", "", h{"Authorization": {""}}, "apiKey=" + goodKey, letIn, letIn, emptyHides},
		{"an empty X-API-KEY and the query", "", h{"X-Api-Key": {""}}, "apiKey=" + goodKey, letIn, letIn, emptyHides},
		{"an empty query and a token", "", h{"Authorization": {token}}, "apiKey=", letIn, letIn, same},
		{"two keys in the query and a token", "", h{"Authorization": {token}}, "apiKey=a&apiKey=b", letIn, letIn, same},
		{"two X-API-KEY and a token", "", h{"Authorization": {token}, "X-Api-Key": {"a", "b"}}, "", letIn, letIn, same},
		{"X-DTZ-CONTEXT beside a token", "", h{"Authorization": {token}, "X-Dtz-Context": {secondContext}}, "", letIn, letIn, same},
		{"X-DTZ-CONTEXT beside a cookie", "", h{"Cookie": {"dtz-auth=" + goodToken()}, "X-Dtz-Context": {secondContext}}, "", letIn, letIn, same},
		{"X-DTZ-CONTEXT beside a Basic API key", "", h{"Authorization": {basic("apikey", goodKey)}, "X-Dtz-Context": {secondContext}}, "", letIn, letIn, same},
		{"X-DTZ-CONTEXT beside the query", "", h{"X-Dtz-Context": {secondContext}}, "apiKey=" + goodKey, letIn, letIn, same},
		{"a broken X-DTZ-CONTEXT beside a token", "", h{"Authorization": {token}, "X-Dtz-Context": {"nonsense!", "more"}}, "", letIn, letIn, same},
		{"contextId beside X-API-KEY", "", h{"X-Api-Key": {goodKey}}, "contextId=" + secondContext, letIn, letIn, same},
		{"contextId beside a token", "", h{"Authorization": {token}}, "contextId=" + secondContext, letIn, letIn, same},
		{"all four", "", h{"Authorization": {token}, "X-Api-Key": {"apikey-header00"}, "Cookie": {"dtz-auth=" + tokenOf("identity-cookie00", keyContexts[0])}}, "apiKey=apikey-query000", letIn, answer{200, "identity-cookie00 in context-abc12345"}, same},
	}
	for i := range mixed {
		mixed[i].method = http.MethodGet
	}
	return mixed
}
