package oauth

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/secret"
)

func TestClean(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"plain text", "user is locked", "user is locked"},
		{"letters of other languages", "Benutzer gesperrt: Jürgen 用户", "Benutzer gesperrt: Jürgen 用户"},
		{"several lines become one", "first\r\n\tsecond\n", "first second"},
		{"lines by their Unicode names", "first\u2028second\u2029third\u0085fourth", "first second third fourth"},
		{"a colour", "\x1b[31mred\x1b[0m", "red"},
		{"a C1 control sequence", "a\u009b31mb", "ab"},
		{"a terminal's title", "a\x1b]0;owned\ab", "ab"},
		{"a title that a string terminator ends", "a\x1b]0;owned\x1b\\b", "ab"},
		{"a title with C1", "a\u009d0;owned\u009cb", "ab"},
		{"a link, the text of which stays", "\x1b]8;;https://evil.example\aa\x1b]8;;\ab", "ab"},
		{"a device control string", "a\x1bPq#0\x1b\\b\u0090q\u009cc", "abc"},
		{"the strings that no terminal knows", "a\x1bXs\x1b\\b\x1b^p\x1b\\c\x1b_a\x1b\\d\u0098s\u009ce\u009ep\u009cf\u009fa\u009cg", "abcdefg"},
		{"a string of several lines", "a\x1b]0;owned\nagain\ab", "ab"},
		{"a title beyond ASCII", "a\x1b]0;häßlich ✓\ab", "ab"},
		{"a string without an end", "a\x1b]0;b\u009dc", "a]0;bc"},
		{"one that begins before another ends", "a\x1b]0;b\x1b]0;c\ad", "a]0;bd"},
		{"bell, backspace, delete, NUL", "a\a\b\x7f\x00b", "ab"},
		{"embedded and overridden direction", "a\u202a\u202b\u202c\u202d\u202eb", "ab"},
		{"isolated direction", "a\u2066\u2067\u2068\u2069b", "ab"},
		{"direction marks", "a\u200e\u200f\u061cb", "ab"},
		{"nothing between the letters", "a\u200b\ufeffb", "ab"},
		{"bytes that are not UTF-8", "a\xff\xc3b\xe2\x82", "ab"},
		{"nothing to be seen", "\x1b\u202e\n ", ""},
		{"200 runes", strings.Repeat("ü", 200), strings.Repeat("ü", 200)},
		{"more than 200 runes", strings.Repeat("ü", 201), strings.Repeat("ü", 200) + "…"},
	}
	for _, tt := range tests {
		if got := Clean(tt.in); got != tt.want {
			t.Errorf("%s: Clean(%q) = %q, want %q", tt.name, tt.in, got, tt.want)
		}
	}
}

func TestMessagesLoseTheSecrets(t *testing.T) {
	tests := []struct {
		name    string
		message string
		secrets []secret.String
		want    string
	}{
		{"quoted", `no user has "hunter2"`, []secret.String{"hunter2"}, `no user has "[redacted]"`},
		{"twice", "hunter2hunter2", []secret.String{"hunter2"}, "[redacted][redacted]"},
		{"two of them", "hunter2 and anypassword", []secret.String{"anypassword", "hunter2"}, "[redacted] and [redacted]"},
		{"one begins with the other", "hunter2000", []secret.String{"hunter2", "hunter2000"}, "[redacted]"},
		{"with an escape sequence in its midst", "hun\x1bter2", []secret.String{"hunter2"}, "[redacted]"},
		{"behind half a control sequence", "not \x1b[hunter2", []secret.String{"hunter2"}, "not redacted]"},
		{"with another width of space", "correct \n horse", []secret.String{"correct  horse"}, "[redacted]"},
		{"as it stands in JSON", `got {"password":"a\"b\u003cc"}`, []secret.String{`a"b<c`}, `got {"password":"[redacted]"}`},
		{"as it stands in a form", "got code=a%2Bb%3D&x", []secret.String{"a+b="}, "got code=[redacted]&x"},
		{"cut off by the limit", strings.Repeat("x", 195) + "hunter2", []secret.String{"hunter2"}, strings.Repeat("x", 195) + "[reda…"},
		{"an empty one", "hello", []secret.String{""}, "hello"},
		{"one that cannot be seen", "hello", []secret.String{"\x00\n"}, "hello"},
	}
	for _, tt := range tests {
		if got := Clean(tt.message, tt.secrets...); got != tt.want {
			t.Errorf("%s: Clean(%q) = %q, want %q", tt.name, tt.message, got, tt.want)
		}
	}
}

func TestErrorReadsAsASentence(t *testing.T) {
	tests := []struct {
		err  Error
		want string
	}{
		{Error{Op: "logging in", Status: 401, Msg: "wrong password"}, "logging in: identity service answered 401 Unauthorized: wrong password"},
		{Error{Op: "logging in", Status: 502}, "logging in: identity service answered 502 Bad Gateway"},
		{Error{Op: "logging in", Status: 599}, "logging in: identity service answered 599"},
		{Error{Op: "logging in", Status: 200, Msg: "the answer has no token in it"}, "logging in: the answer has no token in it"},
		{Error{Op: "logging in", Msg: "no answer in time"}, "logging in: no answer in time"},
	}
	for _, tt := range tests {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("Error() = %q, want %q", got, tt.want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("a\x1b[31m\u202eb", "b")
	f.Add("a\x1b]0;b\x1b\\\u0090c\u009cd", "b\a")
	f.Add("hunter2\xff", "hun\x00ter2")
	f.Add("hunter2 is\u00a0long&enough, hunter2+is%C2%A0long%26enough", "hunter2 is\u00a0long&enough")
	f.Add("\x1b[hunter2\"long\\\"enough", "hunter2\"long\\\"enough")
	f.Add(strings.Repeat("\x1b]", 1000)+"\u2028\u2029\ufeff\U000e0001", "x")
	f.Fuzz(func(t *testing.T, message, sent string) {
		got := Clean(message, secret.String(sent))
		if !showable(got) || printable(got) != got || utf8.RuneCountInString(got) > maxMessage+1 {
			t.Errorf("Clean(%q) = %q, want one line to be shown", message, got)
		}
		asJSON, _ := json.Marshal(sent)
		for _, form := range []string{sent, string(asJSON[1 : len(asJSON)-1]), url.QueryEscape(sent)} {
			form = printable(form)
			// With brackets, or shorter, it can come together from ours.
			if len(form) > len("[redacted]") && !strings.ContainsAny(form, "[]") && strings.Contains(got, form) {
				t.Errorf("Clean(%q) = %q, which holds %q", message, got, form)
			}
		}
		if once := Clean(message); Clean(once) != once {
			t.Errorf("Clean(%q) = %q, and cleaned again %q", message, once, Clean(once))
		}
	})
}
