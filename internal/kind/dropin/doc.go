// Package dropin keeps the files of ".d" directories as the policy wants them,
// each whole: content, mode, owner and group, or gone.
//
// What reads such a directory differs, and the table of package dropindir says how: which
// mode the file needs, what can be checked before it takes the place of the old
// one, and what makes it take effect. A file that its family's checker refuses is
// never written, and the old one stays. Checks that concern the whole
// configuration (sudo, rsyslog, sshd) see the whole, with the new file in it.
//
// Whether such a file is to blame is looked into: one that was broken before keeps
// nobody else's from being written, and is named.
//
// What is to take effect once files are written is done once for all of them.
// It is noted first, below /run, so that it is made up for when the agent dies
// in between; what a reboot brings about anyway need not be. What their reader
// takes in only at its start, or with the next login, is pending until then.
//
// A directory may be the policy's own (purge): then what neither it nor a package
// has put there goes.
//
// A file that holds a secret is readable by its owner alone unless the policy
// says otherwise, is never staged anywhere, and never shown.
package dropin
