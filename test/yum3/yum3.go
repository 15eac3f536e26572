// Package yum3 is what stands in for yum 3.4.3 in a box: the program "yum", which drives the real rpm, and
// the records of what the real one did, to which a test holds it.
package yum3

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

//go:embed yum
var program []byte

//go:embed records.txt
var records string

// Install makes of the machine below root, which has dnf and its library for Python, one with yum.
func Install(root string) error {
	for _, name := range []string{"dnf", "dnf-3"} {
		if err := os.Remove(filepath.Join(root, "usr/bin", name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	plugins := filepath.Join(root, "etc/yum/pluginconf.d")
	return errors.Join(
		os.WriteFile(filepath.Join(root, "usr/bin/yum"), program, 0o755),
		os.MkdirAll(plugins, 0o755),
		os.WriteFile(filepath.Join(plugins, "versionlock.conf"), []byte("[main]\nenabled = 1\nlocklist = /etc/yum/pluginconf.d/versionlock.list\n"), 0o644),
		os.WriteFile(filepath.Join(plugins, "versionlock.list"), nil, 0o644),
	)
}

// A Record is one thing that yum 3.4.3 did.
type Record struct {
	Line      int
	Before    []string // packages as NAME-VERSION; "locked", "busy" and "down" are the state of yum and its repositories
	Command   string
	Script    string // of the shell
	Code      string
	Said      string // is in what was printed
	Afterward string // packages, separated by blanks
}

// Records are all that is known.
func Records() ([]Record, error) {
	var all []Record
	for i, line := range strings.Split(strings.TrimSuffix(records, "\n"), "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Split(line, "|")
		if len(fields) != 5 {
			return nil, fmt.Errorf("records.txt:%d: there are %d fields and not 5", i+1, len(fields))
		}
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		r := Record{Line: i + 1, Before: strings.Fields(fields[0]), Command: fields[1], Code: fields[2], Said: fields[3], Afterward: fields[4]}
		if command, script, is := strings.Cut(fields[1], "{"); is {
			r.Command = command + "/tmp/script"
			r.Script = strings.ReplaceAll(strings.TrimSuffix(script, "}"), "; ", "\n") + "\n"
		}
		all = append(all, r)
	}
	return all, nil
}
