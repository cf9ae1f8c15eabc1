package observe

import (
	"encoding/base64"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// canary stands wherever a client may put a secret.
const canary = "canary"

func TestNoSecretIsLogged(t *testing.T) {
	w := newWorld(t)
	w.withService(t)
	good, bad := token(t, alice), "e30."+canary+".e30"
	key, err := service().CreateKey(alice.Subject, alice.Contexts[0], "")
	if err != nil {
		t.Fatal(err)
	}
	basic := func(user, password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	secrets := []string{canary, good, strings.Split(good, ".")[1], strings.Split(good, ".")[2], key}
	for _, user := range []string{"bearer", "apikey"} {
		for _, password := range []string{good, bad, key, canary} {
			secrets = append(secrets, basic(user, password)[len("Basic "):])
		}
	}

	serve := httptest.NewServer(w.serve(func(http.ResponseWriter, *http.Request) {}))
	defer serve.Close()
	verify := httptest.NewServer(w.verify())
	defer verify.Close()
	requests := 0
	ask := func(url string, header http.Header) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = header
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		requests++
	}

	targets := []string{blob}
	for _, secret := range []string{key, canary} {
		for _, name := range []string{"?apiKey=", "?%61piKey=", "?contextId=", "?n=1&apiKey=", "%3FapiKey=", ";apiKey=", "%23"} {
			targets = append(targets, blob+name+secret)
		}
	}
	headers := []http.Header{{}}
	for name, values := range map[string][]string{
		"Authorization": {"Bearer " + good, "Bearer " + bad, basic("bearer", good), basic("bearer", bad), basic("apikey", key), basic("apikey", canary), basic(canary, canary), canary},
		"X-API-KEY":     {key, canary},
		"Cookie":        {"dtz-auth=" + good, "dtz-auth=" + bad, "session=" + canary},
		"Referer":       {"https://example.com/?apiKey=" + canary},
		"X-Request-Id":  {canary},
		"X-Dtz-Context": {canary},
	} {
		for _, value := range values {
			headers = append(headers, http.Header{http.CanonicalHeaderKey(name): {value}})
		}
	}
	for _, target := range targets {
		for _, header := range headers {
			ask(serve.URL+target, header)
			ask(verify.URL+"/verify"+target, header) // as Envoy does
			asked := maps.Clone(header)
			asked["X-Forwarded-Method"], asked["X-Forwarded-Uri"] = []string{"GET"}, []string{target}
			ask(verify.URL+"/verify", asked)
			ask(verify.URL+"/verify?apiKey="+canary, asked)
		}
	}
	ask(verify.URL+"/verify", http.Header{"X-Forwarded-Method": {"GET"}, "X-Forwarded-Uri": {"/v2/%zz?apiKey=" + canary}})
	ask(verify.URL+"/verify", http.Header{"X-Original-Method": {canary}, "X-Forwarded-Uri": {"/v2/?apiKey=" + canary}})

	serve.Close() // which waits for the last lines
	verify.Close()
	log := w.lines.take()
	if lines := strings.Count(log, "\n"); lines != requests {
		t.Errorf("%d lines for %d requests", lines, requests)
	}
	if !strings.Contains(log, "identity-alice001") {
		t.Error("nobody has got in")
	}
	page := w.scrape(t)
	for _, secret := range secrets {
		if i := strings.Index(log, secret); i >= 0 {
			t.Errorf("logged: %s", log[strings.LastIndexByte(log[:i], '\n')+1:i+len(secret)])
		}
		if strings.Contains(page, secret) {
			t.Errorf("the metrics hold %q", secret)
		}
	}
}

// Whatever a client writes, it is one line, in its own field, and not long.
func TestNobodyForgesALine(t *testing.T) {
	w := newWorld(t)
	forged := "\n{\"level\":\"INFO\",\"identity\":\"identity-admin01\"}\n\x1b[2J\u2028\xff"
	long := strings.Repeat("ä", 5000)
	for _, text := range []string{forged, long} {
		r := request("GET", "/v2/app/tags/list", "")
		r.Method = text
		r.URL.Path += text
		r.Header.Set("User-Agent", text)
		r.Header.Set("X-Request-Id", text)
		r.RemoteAddr = text
		r.SetBasicAuth(text, text)
		answer := httptest.NewRecorder()
		w.serve(nil).ServeHTTP(answer, r)
		if id := answer.Header().Values("X-Request-Id"); len(id) != 1 || len(id[0]) > 32 {
			t.Errorf("X-Request-Id of the answer is %q", id)
		}
		log := w.lines.take()
		if strings.Count(log, "\n") != 1 || !strings.HasSuffix(log, "\n") || strings.ContainsAny(log, "\x1b\u2028") || !utf8.ValidString(log) || len(log) > 4096 {
			t.Errorf("logged:\n%s", log)
		}
		_, _ = w.lines.Write([]byte(log))
		w.one(t).check(t, text, line{"identity": nil, "level": "INFO", "client": nil})
	}
}

func TestCut(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", ""},
		{"four", "four"},
		{"fives", "five…"},
		{"äöü", "äö…"},
		{"abcö", "abc…"},
		{"\xff\xff\xff\xff\xff", "\xff\xff\xff\xff…"},
	} {
		if got := cut(tt.text, 4); got != tt.want {
			t.Errorf("cut(%q, 4) = %q, want %q", tt.text, got, tt.want)
		}
	}
}

// The document has each field, in the order of the line.
func TestDocumentHasTheFields(t *testing.T) {
	w := newWorld(t)
	r := request("DELETE", blob, token(t, mallory)) // who may not: no other has more to tell
	r.Header.Set("User-Agent", "docker")
	w.serve(nil).ServeHTTP(httptest.NewRecorder(), r)
	var want []string
	for member := range strings.SplitSeq(w.lines.take(), `,"`) {
		name, _, _ := strings.Cut(strings.TrimLeft(member, `{"`), `"`)
		want = append(want, name)
	}
	var got []string
	for _, row := range rows(t, "| field | |") {
		got = append(got, row[0])
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s has the fields\n%v, want\n%v", operationDoc, got, want)
	}
}

func TestPastedCredentialsAreRedacted(t *testing.T) {
	encoded := base64.StdEncoding.EncodeToString
	token := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","typ":"JWT"}`)) + ".e30.c2lnbmF0dXJl"
	for text, want := range map[string]string{
		"/v2/" + token + "/tags/list":                                    "/v2/[redacted]/tags/list",
		"curl " + encoded([]byte("bearer:"+token)):                       "curl [redacted]",
		"curl " + encoded([]byte("apikey:apikey-abc12345")):              "curl [redacted]",
		"/v2/apikey-abc12345/tags/list":                                  "/v2/[redacted]/tags/list",
		"apikey-abcdefghijkl012345678901":                                "[redacted]",
		"apikey-3fa85f64-5717-4562-b3fc-2c963f66afa6":                    "[redacted]",
		"/v2/apikey-service/manifests/v1":                                "/v2/apikey-service/manifests/v1",
		"/v2/app/blobs/sha256:" + strings.Repeat("0123456789abcdef", 4):  "/v2/app/blobs/sha256:" + strings.Repeat("0123456789abcdef", 4),
		"docker/28.2.2 go/go1.24.5 UpstreamClient(Docker-Client/28.2.2)": "docker/28.2.2 go/go1.24.5 UpstreamClient(Docker-Client/28.2.2)",
	} {
		if got := redact(text); got != want {
			t.Errorf("redact(%q) = %q, want %q", text, got, want)
		}
	}
}
