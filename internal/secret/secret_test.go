package secret

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestStringIsNeverShown(t *testing.T) {
	const text = "correct horse"
	holder := struct{ Password String }{text}

	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("login", "password", String(text), "holder", holder)
	asJSON, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]string{
		"%v":   fmt.Sprintf("%v", String(text)),
		"%+v":  fmt.Sprintf("%+v", holder),
		"%#v":  fmt.Sprintf("%#v", holder),
		"%s":   fmt.Sprintf("%s", holder),
		"%q":   fmt.Sprintf("%q", String(text)),
		"%x":   fmt.Sprintf("%x", String(text)),
		"%d":   fmt.Sprintf("%d", String(text)),
		"err":  fmt.Errorf("refreshing %v", String(text)).Error(),
		"slog": log.String(),
		"json": string(asJSON),
	}
	for how, got := range shown {
		if strings.Contains(got, text) || strings.Contains(got, fmt.Sprintf("%x", text)) {
			t.Errorf("%s shows the secret: %s", how, got)
		}
		if !strings.Contains(got, redacted) {
			t.Errorf("%s = %q, want it to say %s", how, got, redacted)
		}
	}
	if got := String(text).Reveal(); got != text {
		t.Errorf("Reveal() = %q, want %q", got, text)
	}
}
