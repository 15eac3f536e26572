package main

import (
	"github.com/spf13/cobra"

	"github.com/soe-agent/soe-agent/internal/policy"
)

func (a *app) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of a fragment, for editors",
		Long: `Schema prints the JSON Schema (draft 7) by which an editor completes, explains and checks
a fragment while it is written. Lint knows more.

Put it beside the fragments, and name it in their first line, for editors with Taplo
(VS Code: Even Better TOML; Neovim, Helix, Emacs: the language server taplo):
    #:schema ./policy.schema.json`,
		Example: "  soe-agent policy schema > policy.schema.json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.printJSON(policy.Schema())
		},
	}
}
