package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/soe-agent/soe-agent/test/awsfake"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"soe-agent": func() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// The files in testdata/script are the specification of the command line, one
// behaviour a file. Each has an AWS of its own, with nothing in it, and the
// credentials of one who publishes.
func TestTheCommandLine(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Setup: func(env *testscript.Env) error {
		server, err := awsfake.Start("127.0.0.1:0")
		if err != nil {
			return err
		}
		env.Defer(server.Down)
		author := awsfake.PublisherCredentials()
		env.Setenv("AWS_ACCESS_KEY_ID", author.AccessKeyID)
		env.Setenv("AWS_SECRET_ACCESS_KEY", author.SecretAccessKey)
		env.Setenv("AWS_SESSION_TOKEN", author.SessionToken)
		env.Setenv("AWS_REGION", awsfake.Region)
		documents, err := filepath.Abs("../../docs")
		if err != nil {
			return err
		}
		env.Setenv("DOCS", documents)
		config := fmt.Sprintf("[aws]\npath = \"/soe/prod\"\nendpoint = %q\n", server.URL)
		return os.WriteFile(filepath.Join(env.WorkDir, "agent.toml"), []byte(config), 0o600)
	}})
}
