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
//   - Whoever is logged in is not changed until the session has ended, nor is an
//     account of which processes run.
//   - The administrator, the streaming agent's accounts and what the machine runs
//     on are never removed. No home is ever removed or moved.
//   - When an id changes, files outside the account's home keep the old one, and
//     the resource says so: looking for them would mean to walk the whole disk.
//   - Of memberships only those in the policy are added; none is taken away.
package account
