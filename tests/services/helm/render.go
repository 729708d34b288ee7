// Renders the templates of a chart by Go's own text/template, with the few functions of Helm that they use.
//
// Standard input: {"files": {name: text}, "data": {"Values": ..., "Release": ...}}; output: {name: rendered text}.
// A function that is not here is an error, as is a value that is not there.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/template"
)

func indented(spaces int, text string) string {
	pad := strings.Repeat(" ", spaces)
	return pad + strings.ReplaceAll(text, "\n", "\n"+pad)
}

var functions = template.FuncMap{
	// JSON is YAML, so this stands for Helm's toYaml wherever an object may stand on one line.
	"toYaml": func(value interface{}) (string, error) {
		text, err := json.MarshalIndent(value, "", "  ")
		return string(text), err
	},
	"nindent": func(spaces int, text string) string { return "\n" + indented(spaces, text) },
	"default": func(otherwise, value interface{}) interface{} {
		if value == nil || value == "" {
			return otherwise
		}
		return value
	},
}

type input struct {
	Files map[string]string      `json:"files"`
	Data  map[string]interface{} `json:"data"`
}

func render() error {
	var given input
	decoder := json.NewDecoder(os.Stdin)
	decoder.UseNumber() // or every number would be a float
	if err := decoder.Decode(&given); err != nil {
		return err
	}
	rendered := map[string]string{}
	for name, text := range given.Files {
		parsed, err := template.New(name).Funcs(functions).Parse(text)
		if err != nil {
			return err
		}
		var out bytes.Buffer
		if err := parsed.Execute(&out, given.Data); err != nil {
			return err
		}
		if strings.Contains(out.String(), "<no value>") {
			return fmt.Errorf("%s uses a value that is not there", name)
		}
		rendered[name] = out.String()
	}
	return json.NewEncoder(os.Stdout).Encode(rendered)
}

func main() {
	if err := render(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
