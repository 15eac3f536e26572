package policy

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/soe-agent/soe-agent/internal/protected"
)

// A sysusersLine is one line of sysusers.d(5).
type sysusersLine struct {
	number     int
	kind       byte
	name, id   string
	group, gid string // into which it puts an account, by name or by number; "": it does not say
	unclear    string // why not every systemd reads it alike, or ""
}

func sysusersLines(content string) (lines []sysusersLine) {
	number := 0
	for text := range strings.SplitSeq(content, "\n") {
		number++
		fields := quotedFields(text)
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") || fields[0] == "" {
			continue
		}
		fields = append(fields, "")
		l := sysusersLine{number: number, kind: fields[0][0], name: fields[1], id: fields[2], unclear: readOtherwise(text, fields[:min(3, len(fields))])}
		if l.kind != 'r' && strings.Contains(l.name+l.id, "%") {
			l.unclear = "what a specifier in it stands for depends on the machine: write the name out"
		}
		if l.kind == 'm' {
			l.group = l.id
		}
		if _, group, is := strings.Cut(l.id, ":"); is && l.kind == 'u' {
			if l.group = group; isNumber(group) {
				l.group, l.gid = "", group
			}
		}
		lines = append(lines, l)
	}
	return lines
}

// isNumber reports whether a text is a number for systemd, whose older versions take 0x0 and 00 for one.
func isNumber(text string) bool {
	_, err := strconv.ParseUint(text, 0, 64)
	_, decimal := strconv.ParseUint(text, 10, 64)
	return err == nil || decimal == nil
}

// givesRights are groups whose members may do what root may, or nearly.
func givesRights() []string {
	return strings.Fields("root wheel sudo adm admin disk shadow docker lxd lxc incus incus-admin libvirt libvirt-qemu kvm kmem mem tty input podman systemd-journal sgx ssh_keys _ssh utmp")
}

// lastOfSystem is the greatest id of the groups that are the same on all machines of a system.
const lastOfSystem = 99

// writtenBySysusers checks a file of sysusers.d(5).
func writtenBySysusers(content string) string {
	for _, l := range sysusersLines(content) {
		if why := l.forbidden(); why != "" {
			return fmt.Sprintf("line %d %s", l.number, why)
		}
	}
	return ""
}

func (l sysusersLine) forbidden() string {
	uid, _, _ := strings.Cut(l.id, ":")
	id := func(text string) bool {
		return strings.Trim(strings.TrimPrefix(strings.ToLower(text), "0x"), "0ob_") == ""
	}
	switch {
	case l.unclear != "":
		return "may be read in another way: " + l.unclear
	case l.kind == 'r' || hasReference(l.name+l.id):
	case protected.Account(l.name) != "":
		return fmt.Sprintf("has systemd-sysusers see to the account %s: %s", l.name, protected.Account(l.name))
	case slices.Contains(givesRights(), l.group):
		return fmt.Sprintf("has systemd-sysusers put %s into the group %s, which gives rights: say it in [sudo] or [users]", l.name, l.group)
	case l.kind == 'm':
	case path.IsAbs(uid):
		return fmt.Sprintf("gives %s the id of whoever owns %s, which nobody can tell: name the id", l.name, uid)
	case isNumber(uid) && id(uid):
		return fmt.Sprintf("has systemd-sysusers give %s the id 0, which is root's", l.name)
	case l.gid != "" && ofSystem(l.gid):
		return fmt.Sprintf("has systemd-sysusers put %s into the group %s, which is one of the system's own", l.name, l.gid)
	}
	return ""
}

// ofSystem reports whether a number is the id of a group that is the same on all machines of a system.
func ofSystem(gid string) bool {
	for _, base := range []int{0, 10} {
		if n, err := strconv.ParseUint(gid, base, 64); err == nil && n <= lastOfSystem {
			return true
		}
	}
	return false
}
