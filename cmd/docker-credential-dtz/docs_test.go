package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A declared name is a package's or type's, with their names in front: oauth.Client,
// oauth.Client.Refresh. Tests have none: TestMain.
func declared(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	add := func(pkg string, decl ast.Decl) {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			name := decl.Name.Name
			if decl.Recv != nil {
				of := decl.Recv.List[0].Type
				if pointer, ok := of.(*ast.StarExpr); ok {
					of = pointer.X
				}
				if of, ok := of.(*ast.Ident); ok {
					name = of.Name + "." + name
				}
			}
			names[pkg+name] = true
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					names[pkg+spec.Name.Name] = true
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						names[pkg+name.Name] = true
					}
				}
			}
		}
	}
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error { // both modules
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == "testdata", entry.IsDir() && entry.Name() == ".git":
			return fs.SkipDir
		case filepath.Ext(path) != ".go":
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		pkg := file.Name.Name + "."
		if strings.HasSuffix(path, "_test.go") {
			pkg = ""
		}
		for _, decl := range file.Decls {
			add(pkg, decl)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// lastCells are the last cells of the rows of a document's tables that have such
// a heading there.
func lastCells(t *testing.T, path, heading string) (cells []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	inTable := false
	for line := range strings.Lines(string(text)) {
		row := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		last := strings.TrimSpace(row[len(row)-1])
		switch {
		case !strings.HasPrefix(line, "|"):
			inTable = false
		case last == heading:
			inTable = true
		case inTable && !strings.HasPrefix(line, "|--"):
			cells = append(cells, last)
		}
	}
	return cells
}

var codeSpan = regexp.MustCompile("`([^`]+)`")

// Each promise of the threat model is held by tests, and those are there.
func TestThreatModelNamesTests(t *testing.T) {
	const path = "../../docs/threat-model.md"
	names := declared(t)
	cells := lastCells(t, path, "held by")
	if len(cells) < 50 {
		t.Fatalf("%s has %d promises, so they are looked for in the wrong place", path, len(cells))
	}
	for _, cell := range cells {
		spans := codeSpan.FindAllStringSubmatch(cell, -1)
		if len(spans) == 0 {
			t.Errorf("%s: no test holds a promise: %q", path, cell)
		}
		for _, span := range spans {
			name, script, isScript := strings.Cut(span[1], "/")
			if !strings.HasPrefix(name, "Test") && !strings.HasPrefix(name, "Fuzz") || !names[name] {
				t.Errorf("%s names %s, which is no test", path, name)
			}
			if isScript {
				if _, err := os.Stat(filepath.Join("testdata", "script", script+".txtar")); name != "TestScripts" || err != nil {
					t.Errorf("%s names %s, which is no script", path, span[1])
				}
			}
		}
	}
}

// Each assumption lives where it is said to.
func TestAssumptionsNameTheCode(t *testing.T) {
	const path = "../../docs/assumptions.md"
	names := declared(t)
	cells := lastCells(t, path, "where")
	if len(cells) < 20 {
		t.Fatalf("%s has %d assumptions, so they are looked for in the wrong place", path, len(cells))
	}
	for _, cell := range cells {
		spans := codeSpan.FindAllStringSubmatch(cell, -1)
		if len(spans) == 0 {
			t.Errorf("%s: an assumption lives nowhere: %q", path, cell)
		}
		for _, span := range spans {
			if !strings.Contains(span[1], ".") || !names[span[1]] {
				t.Errorf("%s names %s, which is not declared", path, span[1])
			}
		}
	}
}
