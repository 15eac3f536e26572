// Package dropindir is what is known of directories of drop-ins, in one table: how their
// reader treats the files, what is said of them before they are in place, what makes them
// take effect, and what the policy may say of them.
package dropindir

import (
	"io/fs"
	"path"
	"regexp"
)

// A Directory is one that holds drop-ins, or several that one program reads.
type Directory struct {
	Dir   string // a pattern of path.Match
	Holds bool   // drop-ins belong there, though it is not called so: others end in ".d"

	Names      Names
	Mode       fs.FileMode // that a file has where the policy says none; 0: 0644
	Modes      Modes
	RootsAlone bool // its reader passes over files of others than root

	Check  Check
	Effect Effect
	Reader *Reader // nil: it is read on every machine, or nothing is known of it

	Seen    string // why others see what is in a file there, which then can hold no secret, or ""
	NoPurge string // why it cannot be purged, or ""
}

// Names are those of files that the reader of a directory does not pass over.
type Names struct {
	Reads *regexp.Regexp // nil: nothing is known of them
	Skips *regexp.Regexp // nil: nothing that Reads matches
	Why   string         // what the reader passes over, and where that is written
}

// Modes are those of files that the reader of a directory does not pass over.
type Modes struct {
	Forbidden, Needed fs.FileMode
	Why               string // "": it takes all
}

// A Reader is who takes in the files of a directory.
type Reader struct {
	Who      string   // a program's or a package's name, as people know it
	Programs []string // of which one is there where it is installed; none: it always is
	Units    []string // of a daemon, by which it is there though its program is not
	Mains    []string // what it reads itself, the first that is there; none: it knows the directory
	// Includes are the words of a main file behind which stands what else is read: files,
	// patterns of files or directories.
	Includes *regexp.Regexp
	// Whole says that a directory is included by its bare name.
	Whole bool
}

// Of is what is known of a directory; the zero Directory is nothing.
func Of(dir string) Directory {
	for _, d := range table() {
		if matched, _ := path.Match(d.Dir, dir); matched {
			return d
		}
	}
	return Directory{}
}

// All are those that are known.
func All() []Directory { return table() }

// A Check is one of what is to be in a file, before it is in place.
type Check int

// The checks.
const (
	NoCheck Check = iota // nothing can be told
	Sudoers
	Sysctl
	Shell
	DesktopEntry
	Job
	Cron
	Limits
	Logrotate
	Rsyslog
	SSHD
	Unit
	UnitSyntax
	UnitPart
	Environment
	Chrony
	Nft
	Audit
	Modules
	Script
	Written
	Udev
	Certificates
	JSON
	Checks // so many there are
)

// An Effect is what makes a file take effect.
type Effect int

// The effects.
const (
	None Effect = iota // its reader looks by itself
	LoadSysctls
	CreateTmpfiles
	CreateSysusers
	ReloadSystemd
	ReloadUdev
	RestartRsyslog
	RunLdconfig
	ExtractCATrust
	UpdateCACertificates
	RestartJournald
	RestartChrony
	RestartTimesyncd
	RestartResolved
	RestartOomd
	ReloadSSHD
	LoadAudit
	LoadModules
	AwaitReboot
	AwaitLogin
	Effects // so many there are
)
