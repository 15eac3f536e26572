package policy

import (
	"path"
	"slices"
)

// ReaderIsKnown says whether the agent knows who reads the files of a directory, and so what
// makes a change of one take effect. Of any other a file is only kept as it is wanted.
func ReaderIsKnown(dir string) bool {
	for _, rule := range nameRules {
		if matched, _ := path.Match(rule.dir, dir); matched {
			return true
		}
	}
	return slices.ContainsFunc(readByAnyName(), func(known string) bool {
		matched, _ := path.Match(known, dir)
		return matched
	}) || isSkeleton(dir) || slices.Contains(dropinPlaces(), dir)
}

// readByAnyName are patterns of directories whose readers are known and take files of any name.
func readByAnyName() []string {
	return []string{"/etc/X11/xinit/xinitrc.d", "/etc/ssh/ssh_config.d", "/etc/chrony/*.d", "/etc/nftables.d", "/etc/nftables"}
}

// unknownReader says of a file what only its author can tell.
func (a *adviser) unknownReader(s Setting, d Dropin) {
	if dir := path.Dir("/" + s.ID.Name()); d.Activate == nil && !ReaderIsKnown(dir) {
		a.say(Notice, s.Line, "it is not known who reads "+dir+": the file is kept, and whether it is in effect is not looked at",
			"say with activate which command makes a change take effect, or with activate = [] that none is needed")
	}
}
