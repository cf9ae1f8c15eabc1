//go:build wycheproof

package registry

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// The vectors of Project Wycheproof (github.com/C2SP/wycheproof) are no part of
// this repository. scripts/wycheproof runs these tests on a copy of them;
// without one they are not built, rather than skipped.

// A vectorFile is what we read of a file of vectors.
type vectorFile struct {
	TestGroups []struct {
		Comment string
		// Public or Private is a key or a set of them. Symmetric keys have no
		// public half.
		Public, Private json.RawMessage
		// An RSA key in two forms, in the files of bare signatures.
		KeyJWK       json.RawMessage
		PublicKeyPEM string
		Tests        []vector
	}
}

type vector struct {
	ID       int `json:"tcId"`
	Comment  string
	Result   string // valid, invalid or acceptable
	Flags    []string
	JWS      any // a compact JWS, or an object that is none
	Msg, Sig string
}

func readVectors(t *testing.T, pattern string) map[string]vectorFile {
	t.Helper()
	dir := os.Getenv("DTZ_WYCHEPROOF")
	paths, err := filepath.Glob(filepath.Join(dir, pattern))
	if dir == "" || err != nil || len(paths) == 0 {
		t.Fatalf("no %s in the folder that DTZ_WYCHEPROOF names, %q (%v)", pattern, dir, err)
	}
	files := make(map[string]vectorFile)
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var file vectorFile
		if err := json.Unmarshal(data, &file); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		files[filepath.Base(path)] = file
	}
	return files
}

// A tally counts vectors by what was expected and what happened.
type tally map[string]int

func (n tally) log(t *testing.T) {
	t.Helper()
	var lines []string
	sum := 0
	for what, count := range n {
		lines = append(lines, fmt.Sprintf("%4d  %s", count, what))
		sum += count
	}
	slices.Sort(lines)
	for _, line := range lines {
		t.Log(line)
	}
	t.Logf("%4d  vectors", sum)
	if sum == 0 {
		t.Error("no vector ran")
	}
}

// rulesBeforeClaims are those that a token has to pass for its signature to
// count as accepted. The vectors sign texts that are no claims.
var rulesBeforeClaims = []Rule{RuleSize, RuleShape, RuleHeader, RuleAlgorithm, RuleType, RuleKeyID, RuleSignature}

// Whole tokens, through Verify, with keys as they come from a key set.
func TestWycheproofTokens(t *testing.T) {
	// Valid vectors that we refuse nevertheless, beside those of algorithms
	// other than RS256.
	exceptions := map[string]Rule{
		"json_web_signature_test.json 259": RuleShape, // signs nothing: no token of ours is without claims
	}
	counted := make(tally)
	for name, file := range readVectors(t, "json_web_[skc]*_test.json") {
		for _, group := range file.TestGroups {
			text := group.Public
			if text == nil {
				text = group.Private
			}
			var set struct{ Keys json.RawMessage }
			if err := json.Unmarshal(text, &set); err != nil {
				t.Fatal(err)
			}
			if set.Keys == nil {
				text = json.RawMessage(`{"keys":[` + string(text) + `]}`)
			}
			keys, errKeys := parseKeySet(text)
			var v *Verifier
			if errKeys == nil {
				c := testConfig()
				c.Keys = keys
				v = newVerifier(t, c)
			}
			for _, test := range group.Tests {
				token, ok := test.JWS.(string)
				if !ok {
					continue
				}
				id := fmt.Sprintf("%s %d", name, test.ID)
				by := "the key set"
				accepted := false
				if errKeys == nil {
					_, err := v.Verify(t.Context(), token)
					refusal, ok := errors.AsType[*TokenError](err)
					if !ok {
						t.Errorf("%s: Verify() = %v", id, err)
						continue
					}
					accepted = !slices.Contains(rulesBeforeClaims, refusal.Rule)
					by = "rule " + string(refusal.Rule)
					if slices.Contains(test.Flags, "ModifiedPadding") && refusal.Rule != RuleSignature {
						t.Errorf("%s (%s): refused by %s, want %s", id, test.Comment, by, RuleSignature)
					}
				}
				switch {
				case accepted:
					counted[test.Result+": accepted"]++
					if test.Result != "valid" {
						t.Errorf("%s (%s) is accepted", id, test.Comment)
					}
				case test.Result == "valid" && errKeys == nil:
					counted["valid: refused by "+by]++
					if exceptions[id] == "" || by != "rule "+string(exceptions[id]) {
						t.Errorf("%s (%s) is valid and refused by %s", id, test.Comment, by)
					}
				case test.Result == "valid":
					counted["valid: refused with its key, for another algorithm than RS256"]++
					if isRS256(t, text) {
						t.Errorf("%s (%s) is valid, its key refused: %v", id, test.Comment, errKeys)
					}
				default:
					counted["invalid: refused by "+by]++
				}
			}
		}
	}
	counted.log(t)
}

// isRS256 reports whether any of the keys is for RS256.
func isRS256(t *testing.T, set json.RawMessage) bool {
	t.Helper()
	var keys struct{ Keys []struct{ Alg string } }
	if err := json.Unmarshal(set, &keys); err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(keys.Keys, func(k struct{ Alg string }) bool { return k.Alg == "RS256" })
}

// Bare signatures, with keys in PEM.
func TestWycheproofSignatures(t *testing.T) {
	counted := make(tally)
	for name, file := range readVectors(t, "rsa_signature_*_sha256_test.json") {
		for i, group := range file.TestGroups {
			key, errKey := ParseKeyPEM("none", []byte(group.PublicKeyPEM))
			if group.KeyJWK != nil { // the files of one release or another lack it
				same, errSame := parseKeySet([]byte(`{"keys":[` + string(group.KeyJWK) + `]}`))
				if (errKey == nil) != (errSame == nil) || errKey == nil && !same[0].Public.Equal(key.Public) {
					t.Errorf("%s, group %d: the key is %v, %v in PEM, and %v, %v as a JWK", name, i, key, errKey, same, errSame)
				}
			}
			if errKey != nil {
				t.Logf("%s, group %d (%d vectors): %v", name, i, len(group.Tests), errKey)
				if errKey.Error() != `key "none" has the weak exponent 3` {
					t.Errorf("%s, group %d: a key that is not weak is refused", name, i)
				}
			}
			for _, test := range group.Tests {
				msg, errMsg := hex.DecodeString(test.Msg)
				sig, errSig := hex.DecodeString(test.Sig)
				if errMsg != nil || errSig != nil {
					t.Fatal(errMsg, errSig)
				}
				switch {
				case errKey != nil:
					counted[test.Result+": refused with its weak key"]++
				case key.verifies(string(msg), sig):
					counted[test.Result+": accepted"]++
					if test.Result == "invalid" {
						t.Errorf("%s %d (%s) is accepted", name, test.ID, test.Comment)
					}
				default:
					counted[test.Result+": refused"]++
					if test.Result == "valid" {
						t.Errorf("%s %d (%s) is valid and refused", name, test.ID, test.Comment)
					}
				}
			}
		}
	}
	counted.log(t)
}
