package sudoers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/soe-agent/soe-agent/internal/sudotext"
	"github.com/soe-agent/soe-agent/internal/system"
)

// A Spec is a grant or a denial, as sudo's own parser reads it.
type Spec struct {
	Users  []sudotext.Subject
	Denies bool // every command of it is denied
	// DeniesAll means that every command is denied, on all hosts and as any user.
	DeniesAll bool
}

// Specs runs cvtsudoers(1), which is part of sudo since 1.8.23, on the sudoers files and returns
// all grants and denials, in order. Unlike a query to sudo, it includes grants to people who have
// never logged in. The error wraps system.ErrNotInstalled if cvtsudoers is not installed.
func Specs(ctx context.Context, runner system.Runner) ([]Spec, error) {
	out, err := runner.Run(ctx, system.Command{Argv: []string{"cvtsudoers", "-f", "json", Main}, ReadOnly: true})
	if err == nil && out.ExitCode != 0 {
		err = errors.New(out.LastLine())
		if len(out.Stderr) > 0 {
			err = errors.New(firstLine(string(out.Stderr)))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot have cvtsudoers read the sudoers files: %w", err)
	}
	var read struct {
		Specs []struct {
			Users    []member `json:"User_List"`
			Hosts    []member `json:"Host_List"`
			Commands []struct {
				As       []member `json:"runasusers"`
				AsGroups []member `json:"runasgroups"`
				Options  []any
				Commands []member
			} `json:"Cmnd_Specs"`
		} `json:"User_Specs"`
	}
	if err := json.Unmarshal(mended(out.Stdout), &read); err != nil {
		return nil, fmt.Errorf("cannot understand what cvtsudoers says: %w", err)
	}
	var specs []Spec
	for _, s := range read.Specs {
		spec := Spec{Denies: true, DeniesAll: areAll(s.Hosts) && len(s.Commands) == 1}
		for _, user := range s.Users {
			spec.Users = append(spec.Users, user.subject())
		}
		for _, c := range s.Commands {
			granted := slices.ContainsFunc(c.Commands, func(m member) bool { return m["negated"] != true })
			spec.Denies = spec.Denies && !granted
			spec.DeniesAll = spec.DeniesAll && areAll(c.As) && areAll(c.AsGroups) && len(c.Options) == 0 &&
				len(c.Commands) == 1 && c.Commands[0]["negated"] == true && c.Commands[0]["command"] == Everything
		}
		specs = append(specs, spec)
	}
	return specs, nil
}

var (
	bareOption = regexp.MustCompile(`(?m)^([ \t]*)("(?:runcwd|runchroot)": "(?:[^"\\]|\\.)*")(,?)$`)
	bareSpec   = regexp.MustCompile(`("SELinux_Spec": )\[([^\[\]{]*)\]`)
	lastComma  = regexp.MustCompile(`,[ \t]*\n([ \t]*[\]}])`)
)

// mended repairs the output of cvtsudoers to valid JSON. That of sudo 1.9.3 to 1.9.13, at least,
// writes some options without the braces around them, or with brackets. That of 1.8.23 writes a
// comma where it leaves out Defaults that it does not know. No string in the output spans two
// lines.
func mended(said []byte) []byte {
	said = bareSpec.ReplaceAll(bareOption.ReplaceAll(said, []byte("${1}{ ${2} }${3}")), []byte("${1}{${2}}"))
	return lastComma.ReplaceAll(said, []byte("\n${1}"))
}

// areAll reports whether a list is "ALL" alone.
func areAll(list []member) bool {
	return len(list) == 1 && len(list[0]) == 1 && slices.ContainsFunc(slices.Collect(maps.Values(list[0])), func(name any) bool { return name == "ALL" })
}

// member is one element of a list in cvtsudoers' output: a form with a name, and perhaps "negated".
type member map[string]any

func (m member) subject() sudotext.Subject {
	s := sudotext.Subject{Negated: m["negated"] == true}
	for key, form := range map[string]sudotext.Form{
		"username": sudotext.User, "userid": sudotext.UID, "usergroup": sudotext.Group, "usergid": sudotext.GID,
		"netgroup": sudotext.NetGroup, "nonunixgroup": sudotext.Foreign, "nonunixgid": sudotext.Foreign, "useralias": sudotext.Named,
	} {
		if name, ok := m[key]; ok {
			s.Form, s.Name = form, fmt.Sprint(name)
		}
	}
	if s.Form == sudotext.User && s.Name == "ALL" {
		s.Form, s.Name = sudotext.All, ""
	}
	return s
}
