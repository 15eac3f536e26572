package firewall

import (
	"context"
	"slices"

	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/system"
)

// The tools that load rules. If a tool is uninstalled, its rules stay in force, and the agent
// cannot remove them.
const (
	toolNft      = "nft"
	toolIptables = "iptables"
)

// leftFile returns the file that records, until the next boot, that unwanted rules of a tool are in
// force.
func leftFile(tool string) string { return own.RunDir + "/firewall-left-" + tool }

// fileOf returns the file that exists while a tool's rules are loaded.
func fileOf(tool string) string {
	if tool == toolNft {
		return nftFile
	}
	return ip4File
}

func (k *Kind) exists(name string) (bool, error) {
	_, err := k.system.FS.Stat(name)
	if isMissing(err) {
		return false, nil
	}
	return err == nil, err
}

// left reports whether rules of a tool that has gone are in force, and which of the tools with such
// rules have been installed again.
func (k *Kind) left() (gone bool, back []string, err error) {
	for _, tool := range []string{toolNft, toolIptables} {
		is, err := k.exists(leftFile(tool))
		if err != nil {
			return false, nil, err
		}
		if !is {
			continue
		}
		there, err := k.has(tool)
		if err != nil {
			return false, nil, err
		}
		if there {
			back = append(back, tool)
		} else {
			gone = true
		}
	}
	return gone, back, nil
}

func (k *Kind) has(tool string) (bool, error) {
	if tool == toolNft {
		program, err := k.program(tool)
		return program != "", err
	}
	_, err := k.iptables()
	if isAnswer(err) {
		return false, nil
	}
	return err == nil, err
}

// noteLeft records, until the next boot, whether rules of a tool are left.
func (k *Kind) noteLeft(tool string, is bool) error {
	switch was, err := k.exists(leftFile(tool)); {
	case err != nil:
		return err
	case is && !was:
		return k.system.FS.WriteFile(leftFile(tool), nil, system.Attr{Mode: 0o600})
	case was && !is:
		return k.system.FS.Remove(leftFile(tool))
	}
	return nil
}

// leaveOther removes the rules that the other tool loaded earlier, now that this tool has loaded
// them.
func (k *Kind) leaveOther(ctx context.Context, b backend) error {
	if _, is := b.(nft); !is {
		return k.noteLoaded(toolNft) // nft has gone, otherwise it would be used
	}
	if err := k.noteLeft(toolNft, false); err != nil { // its table was replaced, or does not exist
		return err
	}
	if err := k.noteLoaded(toolIptables); err != nil {
		return err
	}
	if is, err := k.exists(leftFile(toolIptables)); err != nil || !is {
		return err
	}
	other, err := k.iptables()
	if isAnswer(err) {
		return nil // it is reported until the next boot
	}
	if err != nil {
		return err
	}
	views, err := other.look(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(views, func(v view) bool { return v.left }) {
		if err := other.unload(ctx, views); err != nil {
			return err
		}
	}
	return k.noteLeft(toolIptables, false)
}

// noteLoaded records that a tool's rules are left if it has loaded any.
func (k *Kind) noteLoaded(tool string) error {
	is, err := k.exists(fileOf(tool))
	if err != nil || !is {
		return err
	}
	return k.noteLeft(tool, true)
}
