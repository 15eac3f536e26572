package protected

import (
	"path"
	"strings"
)

// A family is a set of systems whose names for things are the same.
type family uint8

const (
	amzn   family = 1 << iota // Amazon Linux 2
	rhel                      // Red Hat Enterprise Linux and Rocky Linux
	debian                    // Ubuntu, which has Debian's names
	every  = amzn | rhel | debian
)

// An entry is a line of one of the tables: names that belong together, of whose families they are, why they are
// protected, and who says so. Machines ask for the names of all families: a policy is linted for all of them
// at once, and a name of another family is nothing that anybody has a use for.
type entry struct {
	names  string // patterns of path.Match, separated by blanks
	of     family
	why    string
	source string
}

// Sources of entries. What is not AWS's word, or the maker's, is protected by what it does.
const (
	components = "WorkSpaces Administration Guide, Required configuration and service components for WorkSpaces Linux"
	smartCards = "WorkSpaces Administration Guide, Use smart cards for authentication"
	migration  = "WorkSpaces Administration Guide, Migrate Linux WorkSpaces"
	dcvGuide   = "Amazon DCV Administrator Guide"
	ssmGuide   = "AWS Systems Manager User Guide"
	dependence = "by what it does: what AWS lists depends on it"
	system     = "by what it does: the system depends on it"
)

// Reasons, as people read them.
const (
	isThisAgent    = "it is this agent"
	noMachine      = "the machine does not work without it"
	noDesktop      = "the desktop cannot be reached without it"
	noLogin        = "nobody could log in without it"
	noNetwork      = "the machine could not be reached without it"
	carriesStream  = "it carries the streaming session"
	wayIn          = "AWS reaches the machine through it"
	belongsToAWS   = "it belongs to WorkSpaces: the desktop may become unreachable"
	decidesAccess  = "it decides who can log in and how the machine is reached"
	makesNetwork   = "the machine is reached by the network that it makes"
	lettingIn      = "WorkSpaces needs it to let people log in"
	startsMachine  = "the machine starts by it"
	startsDesktops = "the session of everybody begins there"
)

// covers reports whether a name is one of those of the entry.
func (e entry) covers(name string) bool {
	for pattern := range e.each {
		if alike(pattern, name) {
			return true
		}
	}
	return false
}

// each are the names of the entry. The tables are gone through for each file that is written and each package
// that is installed, so this is strings.FieldsSeq for what the tables have between the names.
func (e entry) each(yield func(string) bool) {
	begin := 0
	for i := 0; i <= len(e.names); i++ {
		if i < len(e.names) && e.names[i] > ' ' {
			continue
		}
		if i > begin && !yield(e.names[begin:i]) {
			return
		}
		begin = i + 1
	}
}

// alike is path.Match for names without a slash, which are compared very often.
func alike(pattern, name string) bool {
	star := strings.IndexByte(pattern, '*')
	switch {
	case star < 0:
		return pattern == name
	case !strings.HasPrefix(name, pattern[:star]):
		return false
	case star == len(pattern)-1:
		return true
	}
	matched, _ := path.Match(pattern, name)
	return matched
}

// A component is an entry of packages or units, with whose sessions may end or be disturbed when they are
// replaced or stopped.
type component struct {
	entry
	carries Load
}

// lookup returns what the first entry of a table says that covers any of the names of a component. Without
// one it returns "" and Nobody.
func lookup(table []component, names ...string) (why string, carries Load) {
	for _, c := range table {
		for _, name := range names {
			if c.covers(name) {
				return c.why, c.carries
			}
		}
	}
	return "", Nobody
}
