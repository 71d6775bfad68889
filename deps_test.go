package dramatiq_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// goList runs go list on this module alone.
func goList(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...)
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// The root module is the standard library and itself, tests included.
func TestDependencies(t *testing.T) {
	t.Parallel()
	const module = "github.com/dramatiq-go/dramatiq"
	for _, tests := range []string{"-test=false", "-test"} {
		packages := goList(t, "-deps", tests, "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./...")
		if len(packages) < 5 {
			t.Fatalf("go list knows of %d packages only", len(packages))
		}
		for _, p := range packages {
			p, _, _ = strings.Cut(p, " ") // from " [package.test]"
			p = strings.TrimSuffix(strings.TrimSuffix(p, ".test"), "_test")
			if p != module && !strings.HasPrefix(p, module+"/") {
				t.Errorf("the root module depends on %s", p)
			}
		}
	}
	if modules := goList(t, "-m", "all"); len(modules) != 1 {
		t.Errorf("go.mod requires %v", modules[1:])
	}
	if _, err := os.Stat("go.sum"); err == nil {
		t.Error("there is a go.sum, so something is required")
	}
}

// Only packages that help with tests link package testing into a program.
func TestDependencies_NoTestingInProducts(t *testing.T) {
	t.Parallel()
	for _, line := range goList(t, "-f", "{{.ImportPath}} {{join .Deps \" \"}}", "./...") {
		p, deps, _ := strings.Cut(line, " ")
		if strings.HasSuffix(p, "/drivertest") || strings.HasSuffix(p, "/dramatiqtest") {
			continue
		}
		if strings.Contains(" "+deps+" ", " testing ") {
			t.Errorf("%s depends on testing", p)
		}
	}
}
