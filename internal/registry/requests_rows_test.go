package registry

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// What refusals say.
const (
	hint        = `; run "docker-credential-dtz login"`
	nothing     = "authentication required" + hint
	wrongUser   = `the user name is neither "bearer", for a token, nor "apikey", for an API key`
	notBase64   = "the Basic credential is not base64"
	noScheme    = "the Authorization scheme is neither Basic nor Bearer"
	refusedKey  = "API key refused; check it, or replace it by a new one"
	expiredText = "token expired" + hint
	refusedText = "token refused" + hint
	away        = "the credential cannot be checked at the moment; try again"
	missingRole = "missing role https://dtz.rocks/containerregistry/admin/context-abc12345"
	tooLong     = "the API key is too long to be one"
)

// Who is let in.
const (
	owner       = "identity-abc12345 in context-abc12345"
	ownerSecond = "identity-abc12345 in " + secondContext
)

func expiredToken() string {
	return withClaims(goodClaims.with("exp", unix(monday.Add(-time.Hour))))
}

func forgedToken() string {
	return sign(foreignKey(), goodHeader.String(), goodClaims.String())
}

// scopelessToken has a good signature, and a claim too few.
func scopelessToken() string { return withClaims(goodClaims.without("scope")) }

// requests are all rows of the table.
func requests() []request {
	return slices.Concat(authorizationRequests(), apiKeyRequests(), cookieRequests(), queryRequests(), mixedRequests(), pairs())
}

// A row is a request that gets the same answer in either order.
type row struct {
	name    string
	values  []string
	status  int
	text    string
	differs difference
}

func (r row) request(header http.Header, query string) request {
	a := answer{r.status, r.text}
	return request{name: r.name, method: http.MethodGet, header: header, query: query, explicit: a, platform: a, differs: r.differs}
}

func authorizationRequests() (all []request) {
	token, expired, forged := goodToken(), expiredToken(), forgedToken()
	powerless := withClaims(goodClaims.with("roles", `["https://dtz.rocks/containers/admin/context-abc12345"]`))
	elsewhere := withClaims(goodClaims.with("roles", `["https://dtz.rocks/containerregistry/admin/context-zzz99999"]`))
	stranger := tokenOf("identity-abc12345", "context-zzz99999")
	for _, r := range []row{
		{"no credential", nil, 401, nothing, same},
		{"an empty header", []string{""}, 401, nothing, same},
		{"a space", []string{" "}, 401, noScheme, same},

		{"Basic with a token", []string{basic("bearer", token)}, 200, owner, same},
		{"Basic with an API key", []string{basic("apikey", goodKey)}, 200, owner, same},
		{"Bearer with a token", []string{"Bearer " + token}, 200, owner, same},
		{"basic in lower case", []string{strings.Replace(basic("bearer", token), "Basic", "basic", 1)}, 200, owner, schemeCase},
		{"BEARER in upper case", []string{"BEARER " + token}, 200, owner, schemeCase},

		{"Basic with an expired token", []string{basic("bearer", expired)}, 401, expiredText, same},
		{"Bearer with an expired token", []string{"Bearer " + expired}, 401, expiredText, same},
		{"Basic with a forged token", []string{basic("bearer", forged)}, 401, refusedText, same},
		{"Bearer with a forged token", []string{"Bearer " + forged}, 401, refusedText, same},
		{"Basic with an API key for a token", []string{basic("bearer", goodKey)}, 401, refusedText, same},
		{"Bearer with an API key", []string{"Bearer " + goodKey}, 401, refusedText, same},
		{"Basic with a colon behind the token", []string{basic("bearer", token+":")}, 401, refusedText, cutsPassword},
		{"Basic with more behind a colon behind the token", []string{basic("bearer", token+":"+forged)}, 401, refusedText, cutsPassword},
		{"Basic with a token behind a colon", []string{basic("bearer", ":"+token)}, 401, refusedText, same},
		{"Bearer with a colon behind the token", []string{"Bearer " + token + ":"}, 401, refusedText, same},
		{"Bearer with an empty token", []string{"Bearer "}, 401, "the token is empty", same},
		{"Bearer alone", []string{"Bearer"}, 401, "the token is empty", same},
		{"Bearer with two spaces", []string{"Bearer  " + token}, 401, refusedText, same},
		{"Bearer with a tab", []string{"Bearer\t" + token}, 401, noScheme, same},
		{"Bearer with two tokens", []string{"Bearer " + token + ", Bearer " + token}, 401, refusedText, same},
		{"Bearer that is not UTF-8", []string{"Bearer \xff\xfe"}, 401, "the token is not UTF-8", panics},
		{"Bearer with an umlaut", []string{"Bearer ä"}, 401, refusedText, panics},
		{"Bearer with a Basic credential", []string{"Bearer " + base64Of("bearer:"+token)}, 401, refusedText, same},
		{"Bearer of 64 KiB", []string{"Bearer " + strings.Repeat("a", 64<<10)}, 401, refusedText, same},
		{"Bearer with a token that has no third part", []string{"Bearer " + token[:strings.LastIndex(token, ".")]}, 401, refusedText, panics},
		{"Basic with a token that has no third part", []string{basic("bearer", token[:strings.LastIndex(token, ".")])}, 401, refusedText, panics},
		{"Bearer with a dot", []string{"Bearer ."}, 401, refusedText, panics},
		{"Bearer with three dots", []string{"Bearer ..."}, 401, refusedText, same},
		{"Bearer with a fourth part", []string{"Bearer " + token + ".x"}, 401, refusedText, same},
		{"Bearer with a token without scope", []string{"Bearer " + scopelessToken()}, 401, refusedText, panics},

		{"an unknown API key", []string{basic("apikey", "apikey-zzz99999")}, 401, refusedKey, same},
		{"an API key with a colon", []string{basic("apikey", goodKey+":x")}, 401, refusedKey, cutsPassword},
		{"an API key with a line break", []string{basic("apikey", goodKey+"\n")}, 401, refusedKey, same},
		{"a token for an API key", []string{basic("apikey", token)}, 401, tooLong, same},
		{"an API key that is not UTF-8", []string{basic("apikey", "\xff")}, 401, "the API key is not UTF-8", same},
		{"an API key while the identity service is away", []string{basic("apikey", awayKey)}, 503, away, same},
		{"an API key whose token is not for us", []string{basic("apikey", oddKey)}, 503, away, anyAudience},
		{"an API key in steady use, revoked since", []string{basic("apikey", revokedKey)}, 401, refusedKey, servesStale},

		{"Basic with another user", []string{basic("alice", token)}, 401, wrongUser, same},
		{"Basic with no user", []string{basic("", token)}, 401, wrongUser, same},
		{"Basic with BEARER", []string{basic("BEARER", token)}, 401, wrongUser, same},
		{"Basic with a space behind bearer", []string{basic("bearer ", token)}, 401, wrongUser, same},
		{"Basic with a NUL behind apikey", []string{basic("apikey\x00", goodKey)}, 401, wrongUser, same},
		{"Basic with Docker's user for identity tokens", []string{basic("<token>", token)}, 401, wrongUser, same},
		{"Basic with a user that is not UTF-8", []string{basic("b\xe9arer", token)}, 401, wrongUser, same},
		{"Basic with an empty token", []string{basic("bearer", "")}, 401, "the token is empty", same},
		{"Basic with an empty API key", []string{basic("apikey", "")}, 401, "the API key is empty", same},
		{"Basic without a colon", []string{"Basic " + base64Of("bearer")}, 401, "the Basic credential has no password", same},
		{"Basic with nothing", []string{"Basic "}, 401, "the Basic credential has no password", same},
		{"Basic alone", []string{"Basic"}, 401, "the Basic credential has no password", same},
		{"Basic that is not base64", []string{"Basic !!!!"}, 401, notBase64, panics},
		{"Basic with broken padding", []string{"Basic " + strings.TrimRight(base64Of("apikey:"+goodKey), "=") + "x"}, 401, notBase64, panics},
		{"Basic with a line break", []string{"Basic " + base64Of("apikey:" + goodKey)[:8] + "\n" + base64Of("apikey:" + goodKey)[8:]}, 401, notBase64, panics},
		{"Basic with the token itself", []string{"Basic " + token}, 401, notBase64, panics},
		{"Basic with the pair itself", []string{"Basic bearer:" + token}, 401, notBase64, panics},

		{"Digest", []string{`Digest username="bearer"`}, 401, noScheme, same},
		{"Negotiate", []string{"Negotiate " + base64Of("bearer:"+token)}, 401, noScheme, same},
		{"a token without a scheme", []string{token}, 401, noScheme, same},
		{"a scheme that begins like ours", []string{"BearerX " + token}, 401, noScheme, same},
		{"a space before the scheme", []string{" Bearer " + token}, 401, noScheme, same},

		{"the same token twice", []string{"Bearer " + token, "Bearer " + token}, 400, "more than one Authorization header", takesFirst},
		{"a good token and a bad one", []string{"Bearer " + token, "Bearer " + forged}, 400, "more than one Authorization header", takesFirst},
		{"a bad token and a good one", []string{"Bearer " + forged, basic("bearer", token)}, 400, "more than one Authorization header", same},
		{"a token and an empty header", []string{"Bearer " + token, ""}, 400, "more than one Authorization header", takesFirst},

		{"a token without the role", []string{"Bearer " + powerless}, 403, missingRole, same},
		{"a token with the role for another context", []string{basic("bearer", elsewhere)}, 403, missingRole, same},
		{"a token of a context that is not served", []string{basic("bearer", stranger)}, 403, "context-zzz99999 may not use this registry", same},
	} {
		header := http.Header{}
		if r.values != nil {
			header["Authorization"] = r.values
		}
		all = append(all, r.request(header, ""))
	}
	return all
}

// apiKeyRequests have X-API-KEY: before a bar its values, behind it those of
// X-DTZ-CONTEXT.
func apiKeyRequests() (all []request) {
	const bar = "|"
	const notContext = "the X-DTZ-CONTEXT header is not a context's id"
	for _, r := range []row{
		{"X-API-KEY", []string{goodKey}, 200, owner, same},
		{"X-API-KEY with a context", []string{goodKey, bar, secondContext}, 200, ownerSecond, same},
		{"X-API-KEY with a context in its other spelling", []string{goodKey, bar, "def67890"}, 200, ownerSecond, same},
		{"X-API-KEY with an empty context", []string{goodKey, bar, ""}, 200, owner, same},
		{"X-API-KEY with a context of somebody else", []string{goodKey, bar, "context-zzz99999"}, 401, refusedKey, same},
		{"X-API-KEY with an identity for a context", []string{goodKey, bar, "identity-abc12345"}, 400, notContext, same},
		{"X-API-KEY with a kind and no context", []string{goodKey, bar, "context-"}, 400, notContext, same},
		{"X-API-KEY with a path for a context", []string{goodKey, bar, "context-../abc12345"}, 400, notContext, same},
		{"X-API-KEY with a context and a space", []string{goodKey, bar, secondContext + " "}, 400, notContext, same},
		{"X-API-KEY with a list of contexts", []string{goodKey, bar, secondContext + "," + secondContext}, 400, notContext, same},
		{"X-API-KEY with a context of a kilobyte", []string{goodKey, bar, "context-" + strings.Repeat("a", 1<<10)}, 400, notContext, same},
		{"X-API-KEY with two contexts", []string{goodKey, bar, secondContext, "context-abc12345"}, 400, "more than one X-DTZ-CONTEXT header", takesFirst},
		{"X-API-KEY with the same context twice", []string{goodKey, bar, secondContext, secondContext}, 400, "more than one X-DTZ-CONTEXT header", takesFirst},
		{"X-API-KEY with a context that is not UTF-8", []string{goodKey, bar, "\xff"}, 400, notContext, panics},
		{"a context alone", []string{bar, secondContext}, 401, nothing, same},
		{"an empty X-API-KEY", []string{""}, 401, nothing, same},
		{"X-API-KEY with an unknown key", []string{"apikey-zzz99999"}, 401, refusedKey, same},
		{"X-API-KEY with a key and a space", []string{goodKey + " "}, 401, refusedKey, same},
		{"X-API-KEY with a list of keys", []string{goodKey + "," + goodKey}, 401, refusedKey, same},
		{"X-API-KEY with a Basic credential", []string{basic("apikey", goodKey)}, 401, refusedKey, same},
		{"X-API-KEY with a token", []string{goodToken()}, 401, tooLong, same},
		{"X-API-KEY that is not UTF-8", []string{"\xff"}, 401, "the API key is not UTF-8", panics},
		{"X-API-KEY while the identity service is away", []string{awayKey}, 503, away, same},
		{"X-API-KEY with a key that gets a token of another audience", []string{oddKey}, 503, away, anyAudience},
		{"X-API-KEY with a key in steady use, revoked since", []string{revokedKey}, 401, refusedKey, servesStale},
		{"X-API-KEY twice", []string{goodKey, goodKey}, 400, "more than one X-API-KEY header", takesFirst},
		{"X-API-KEY with a good key, then a bad one", []string{goodKey, "apikey-zzz99999"}, 400, "more than one X-API-KEY header", takesFirst},
		{"X-API-KEY with a bad key, then a good one", []string{"apikey-zzz99999", goodKey}, 400, "more than one X-API-KEY header", same},
	} {
		header := http.Header{}
		keys, contexts := r.values, []string(nil)
		if i := slices.Index(r.values, bar); i >= 0 {
			keys, contexts = r.values[:i], r.values[i+1:]
			header["X-Dtz-Context"] = contexts
		}
		if len(keys) > 0 {
			header["X-Api-Key"] = keys
		}
		all = append(all, r.request(header, ""))
	}
	return all
}

// cookieRequests have Cookie headers.
func cookieRequests() (all []request) {
	token, forged := goodToken(), forgedToken()
	const twice = "more than one dtz-auth cookie"
	for _, r := range []row{
		{"the cookie", []string{"dtz-auth=" + token}, 200, owner, same},
		{"the cookie before others", []string{"dtz-auth=" + token + "; theme=dark"}, 200, owner, same},
		{"the cookie behind others", []string{"theme=dark; lang=de; dtz-auth=" + token}, 200, owner, same},
		{"the cookie without a space before it", []string{"theme=dark;dtz-auth=" + token}, 200, owner, same},
		{"the cookie behind one with quotes and brackets", []string{`a="{[,]}"; dtz-auth=` + token}, 200, owner, same},
		{"the cookie behind something that is no pair", []string{"garbage; dtz-auth=" + token}, 200, owner, panics},
		{"the cookie behind one without a name", []string{"=x; dtz-auth=" + token}, 200, owner, panics},
		{"the cookie behind one that is not UTF-8", []string{"a=\xff; dtz-auth=" + token}, 200, owner, panics},
		{"the cookie in a second header", []string{"theme=dark", "dtz-auth=" + token}, 200, owner, cookieHides},
		{"the cookie in the first of two headers", []string{"dtz-auth=" + token, "theme=dark"}, 200, owner, same},
		{"the cookie with an expired token", []string{"dtz-auth=" + expiredToken()}, 401, expiredText, same},
		{"the cookie with a forged token", []string{"dtz-auth=" + forged}, 401, refusedText, same},
		{"the cookie in quotes", []string{`dtz-auth="` + token + `"`}, 401, refusedText, same},
		{"the cookie with something behind an equals sign", []string{"dtz-auth=" + token + "=x"}, 401, refusedText, same},
		{"the cookie with an API key", []string{"dtz-auth=" + goodKey}, 401, refusedText, same},
		{"the cookie with a token that has no third part", []string{"dtz-auth=" + token[:strings.LastIndex(token, ".")]}, 401, refusedText, panics},
		{"the cookie with a token without scope", []string{"dtz-auth=" + scopelessToken()}, 401, refusedText, panics},
		{"an empty cookie", []string{"dtz-auth="}, 401, nothing, same},
		{"a cookie's name alone", []string{"dtz-auth"}, 401, nothing, panics},
		{"other cookies alone", []string{"theme=dark; xdtz-auth=" + token + "; dtz-auth2=" + token}, 401, nothing, same},
		{"the cookie's name in upper case", []string{"DTZ-AUTH=" + token}, 401, nothing, same},
		{"the cookie's name with a dollar sign", []string{"$dtz-auth=" + token}, 401, nothing, same},
		{"no cookie in the header", []string{"a="}, 401, nothing, same},
		{"the cookie twice", []string{"dtz-auth=" + token + "; dtz-auth=" + token}, 400, twice, takesFirst},
		{"a good cookie, then a bad one", []string{"dtz-auth=" + token + "; dtz-auth=" + forged}, 400, twice, same},
		{"a bad cookie, then a good one", []string{"dtz-auth=" + forged + "; dtz-auth=" + token}, 400, twice, takesFirst},
		{"a good cookie and an empty one", []string{"dtz-auth=; dtz-auth=" + token}, 400, twice, takesFirst},
		{"two cookies in two headers", []string{"dtz-auth=" + token, "dtz-auth=" + forged}, 400, twice, takesFirst},
	} {
		all = append(all, r.request(http.Header{"Cookie": r.values}, ""))
	}
	return all
}

// queryRequests have a query.
func queryRequests() (all []request) {
	const notContext = "the contextId in the query is not a context's id"
	for _, r := range []row{
		{"the query", []string{"apiKey=" + goodKey}, 200, owner, same},
		{"the query among others", []string{"a=b&apiKey=" + goodKey + "&c"}, 200, owner, same},
		{"the query with a context", []string{"apiKey=" + goodKey + "&contextId=" + secondContext}, 200, ownerSecond, same},
		{"the query with a context before it", []string{"contextId=def67890&apiKey=" + goodKey}, 200, ownerSecond, same},
		{"the query with an empty context", []string{"apiKey=" + goodKey + "&contextId="}, 200, owner, emptyHides},
		{"the query with a context's name alone", []string{"apiKey=" + goodKey + "&contextId"}, 200, owner, emptyHides},
		{"the query with its name encoded", []string{"%61piKey=" + goodKey}, 200, owner, same},
		{"the query with all of it encoded", []string{"%61%70%69%4b%65%79=%61pikey%2Dabc12345"}, 200, owner, same},
		{"the query behind a broken neighbour", []string{"%zz=%&apiKey=" + goodKey}, 200, owner, same},
		{"the query behind empty pairs", []string{"&&=&apiKey=" + goodKey}, 200, owner, same},
		{"the query with an identity for a context", []string{"apiKey=" + goodKey + "&contextId=identity-abc12345"}, 400, notContext, same},
		{"the query with a context that encodes a slash", []string{"apiKey=" + goodKey + "&contextId=context-%2e%2e%2f"}, 400, notContext, same},
		{"the query with a context of somebody else", []string{"apiKey=" + goodKey + "&contextId=context-zzz99999"}, 401, refusedKey, same},
		{"the query with two contexts", []string{"apiKey=" + goodKey + "&contextId=def67890&contextId=abc12345"}, 400, "more than one contextId in the query", panics},
		{"the query with a context twice, once encoded", []string{"apiKey=" + goodKey + "&contextId=def67890&%63ontextId=def67890"}, 400, "more than one contextId in the query", panics},
		{"the query twice", []string{"apiKey=" + goodKey + "&apiKey=" + goodKey}, 400, "more than one apiKey in the query", panics},
		{"the query twice, once encoded", []string{"apiKey=" + goodKey + "&%61piKey=" + goodKey}, 400, "more than one apiKey in the query", panics},
		{"the query and an empty one", []string{"apiKey=" + goodKey + "&apiKey"}, 400, "more than one apiKey in the query", panics},
		{"a context alone in the query", []string{"contextId=" + secondContext}, 401, nothing, same},
		{"an empty key in the query", []string{"apiKey="}, 401, nothing, same},
		{"a key's name alone in the query", []string{"apiKey"}, 401, nothing, same},
		{"the query in another case", []string{"apikey=" + goodKey + "&APIKEY=" + goodKey}, 401, nothing, same},
		{"the query with a space in its name", []string{"api+Key=" + goodKey}, 401, nothing, same},
		{"the query behind a semicolon", []string{"a=b;apiKey=" + goodKey}, 401, nothing, same},
		{"the query with a semicolon behind it", []string{"apiKey=" + goodKey + ";a=b"}, 401, refusedKey, same},
		{"the query with a name encoded twice", []string{"%2561piKey=" + goodKey}, 401, nothing, same},
		{"the query with a key encoded twice", []string{"apiKey=%2561pikey-abc12345"}, 401, refusedKey, same},
		{"the query with an unknown key", []string{"apiKey=apikey-zzz99999"}, 401, refusedKey, same},
		{"the query with a key and a space", []string{"apiKey=" + goodKey + "+"}, 401, refusedKey, same},
		{"the query with a key and broken encoding", []string{"apiKey=" + goodKey + "%"}, 401, refusedKey, same},
		{"the query with a key that is not UTF-8", []string{"apiKey=%ff"}, 401, "the API key is not UTF-8", same},
		{"the query with a token", []string{"apiKey=" + goodToken()}, 401, tooLong, same},
		{"the query while the identity service is away", []string{"apiKey=" + awayKey}, 503, away, same},
		{"the query with a key in steady use, revoked since", []string{"apiKey=" + revokedKey}, 401, refusedKey, servesStale},
	} {
		all = append(all, r.request(http.Header{}, r.values[0]))
	}
	return all
}
