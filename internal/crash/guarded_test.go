package crash_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// One goroutine of ours without Guard would end the helper without a word.
func TestGoroutinesAreGuarded(t *testing.T) {
	const ours = "{{with .Module}}{{if .Main}}{{$.Dir}}{{end}}{{end}}"
	out, err := exec.Command("go", "list", "-deps", "-f", ours, "../../cmd/docker-credential-dtz").Output()
	if err != nil {
		t.Fatal(err)
	}
	goroutines := 0
	files := token.NewFileSet()
	for _, dir := range strings.Fields(string(out)) {
		paths, _ := filepath.Glob(filepath.Join(dir, "*.go")) // for whatever platform
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				body, begins := goroutine(n)
				if begins {
					goroutines++
					if !isGuarded(body) {
						t.Errorf("%v: a goroutine that does not defer crash.Guard first", files.Position(n.Pos()))
					}
				}
				return true
			})
		}
	}
	if goroutines < 5 {
		t.Errorf("only %d goroutines were found", goroutines)
	}
}

// goroutine returns what n has run in a goroutine, by a go statement or by
// WaitGroup.Go.
func goroutine(n ast.Node) (body ast.Expr, begins bool) {
	switch n := n.(type) {
	case *ast.GoStmt:
		return n.Call.Fun, true
	case *ast.CallExpr:
		if method, ok := n.Fun.(*ast.SelectorExpr); ok && method.Sel.Name == "Go" && len(n.Args) == 1 {
			return n.Args[0], true
		}
	}
	return nil, false
}

func isGuarded(body ast.Expr) bool {
	literal, ok := body.(*ast.FuncLit)
	if !ok || len(literal.Body.List) == 0 {
		return false
	}
	first, ok := literal.Body.List[0].(*ast.DeferStmt)
	return ok && types.ExprString(first.Call) == "crash.Guard()"
}
