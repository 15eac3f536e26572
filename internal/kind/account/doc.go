// Package account implements the kinds "group", "user" and "ageing": local groups, local accounts, and how long
// their passwords last.
//
// Their state is read from /etc/group, /etc/passwd and /etc/shadow; if nothing has drifted, no program runs.
// They are changed by the tools of shadow-utils, which handle the locks and the shadow files. The
// tools are given only what differs. In an image, which is not running, they run in its root.
//
// What it promises, besides what the policy says:
//
//   - An id that somebody else has is not taken, nor is a name that exists in the directory:
//     winbind assigns ids such as 1000 to the people at the desktops.
//   - Somebody who is logged in is not changed until the session has ended, nor is the
//     id of an account or group that running processes have.
//   - The administrator, the streaming agent's accounts, accounts that the machine needs to
//     run, and those that Amazon Linux reserves an id for are never removed nor renumbered.
//   - The home of a person's account exists and belongs to that person. No home is ever
//     removed, copied, or merged with another. It is moved with everything in it, in one
//     step, to a name that does not exist.
//   - The last administrator of [sudo] allow is not removed, nobody gets a shell that
//     does not exist, and nothing is done to homes before their volume is mounted.
//   - Files follow an id that changes, on the system disk and in /home, however
//     often the agent or the machine dies in between. Until they have, nobody else
//     gets the old id. POSIX ACLs and files in containers keep it.
//   - How long a password lasts locks nobody out, neither at once nor, of somebody who
//     administers the machine, later on. What a field was before is restored when the
//     policy no longer names it.
//   - Memberships in the policy are added; no membership is removed.
//
// Package system walks the disk (system.FS.Reown): it follows no path that somebody could redirect,
// and does not restore set-id bits that the kernel cleared.
package account
