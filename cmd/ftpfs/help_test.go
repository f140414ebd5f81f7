package main

import (
	"os"
	"strings"
	"testing"
)

func TestHelpNamesEveryOption(t *testing.T) {
	help := helpText()
	for _, o := range optionTable() {
		if !strings.Contains(help, "\n  "+o.name) {
			t.Errorf("%s is missing", o.name)
		}
	}
	for line := range strings.SplitSeq(help, "\n") {
		if len(line) > 110 {
			t.Errorf("too wide: %q", line)
		}
	}
}

func TestREADMENamesEveryOptionWithItsDefault(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range optionTable() {
		row, _, _ := strings.Cut(after(string(text), "\n| `"+o.name), "\n")
		if row == "" {
			t.Errorf("%s has no row in the table", o.name)
		} else if !strings.Contains(row, o.def) {
			t.Errorf("the row of %s doesn't name its default %q: %s", o.name, o.def, row)
		}
	}
}

func after(s, sep string) string {
	_, rest, _ := strings.Cut(s, sep)
	return rest
}
