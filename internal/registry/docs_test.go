package registry

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const verificationDoc = "../../docs/verification.md"

// The rules stand in the document in the order in which they are applied.
func TestDocumentHasTheRules(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "refusal.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if ok && strings.HasPrefix(spec.Names[0].Name, "Rule") {
			name, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, name)
		}
		return true
	})
	text, err := os.ReadFile(verificationDoc)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "| rule |")
	section, _, _ = strings.Cut(section, "\n\n")
	var got []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z]+)` \\|").FindAllStringSubmatch(section, -1) {
		got = append(got, row[1])
	}
	if !slices.Equal(got, want) || len(want) < 18 {
		t.Errorf("the document has the rules\n%v, want\n%v", got, want)
	}
}

// The document's limits are those of the code.
func TestDocumentHasTheLimits(t *testing.T) {
	text, err := os.ReadFile(verificationDoc)
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.Join(strings.Fields(string(text)), " ")
	for _, want := range []string{
		"at most " + strconv.Itoa(maxTokenSize>>10) + " KiB",
		"at most " + strconv.Itoa(maxAPIKeySize) + " bytes long",
		strconv.Itoa(maxExchanges) + " at a time, " + strconv.Itoa(maxShare) + " of them for one address (for IPv6, one /" + strconv.Itoa(siteBits) + ")",
		strconv.Itoa(maxRenewals) + " at a time",
		"wait for up to " + strconv.Itoa(int(maxWait.Seconds())) + " s",
		"for " + strconv.Itoa(int(refusalTTL.Seconds())) + " s without asking again",
		"every " + strconv.Itoa(int(defaultTTL.Minutes())) + " minutes",
		"for " + strconv.Itoa(int(defaultAPIKeyTTL.Minutes())) + " minutes from the exchange",
		"as many as " + strconv.Itoa(cacheSize>>20) + " MiB hold",
	} {
		if !strings.Contains(plain, want) {
			t.Errorf("%s does not say %q", verificationDoc, want)
		}
	}
}
