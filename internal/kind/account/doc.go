// Package account keeps local groups and local accounts: the kinds "group" and
// "user".
//
// Where they stand is read from /etc/group and /etc/passwd; no program runs while
// all is well. They are changed by the tools of shadow-utils, which know the locks
// and the shadow files, and which are told only what differs. In an image that
// does not run the tools run in its root.
//
// What it promises, besides what the policy says:
//
//   - An id that somebody else holds is not taken, nor is a name that the directory
//     knows: winbind hands out ids like 1000 to the people at the desks.
//   - Whoever is logged in is not changed until the session has ended, nor is the
//     id of an account or group with which processes run.
//   - The administrator, the streaming agent's accounts, what the machine runs on,
//     and what Amazon Linux reserves an id for are never removed nor renumbered.
//   - The home of a person's account is there and theirs. No home is ever removed,
//     copied, or merged with another; it moves with all that is in it, in one step, to
//     a name that nothing has.
//   - The last administrator of [sudo] allow is not removed, nobody gets a shell that
//     is not there, and nothing is done to homes before their volume is mounted.
//   - Files follow an id that changes, on the system disk and in /home, however
//     often the agent or the machine dies meanwhile. Until they have, nobody else
//     gets the old id. POSIX ACLs and files in containers keep it.
//   - Of memberships only those in the policy are added; none is taken away.
//
// The door walks the disk (system.FS.Reown): it takes no path that somebody could
// turn elsewhere, and gives no set-id bit back that the kernel took away.
package account
