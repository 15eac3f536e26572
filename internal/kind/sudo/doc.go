// Package sudo keeps the right to administer the machine with the users and groups of
// [sudo] allow, and takes it from everybody else.
//
// Of the matching lines of sudoers(5) the last one decides. Two files of the agent's own
// therefore enclose all others in /etc/sudoers.d:
//
//   - 0-soe-sudo sorts first. It grants the allowed everything, unless /etc/sudoers does so
//     already. What later lines grant them, such as NOPASSWD, stays in force.
//   - zz-soe-sudo sorts last. It denies everything to everybody but the allowed. After the
//     denial it grants the single commands of [sudo.commands].
//
// Lines in between that grant something to others are commented out, so that the files show
// what is in force, and so that a file that sorts after zz-soe-sudo cannot undo it. If such a
// line is also for an allowed user, their part of it is written below. Defaults that weaken
// sudo are commented out too; zz-soe-sudo undoes those in files that the agent does not edit.
// In /etc/sudoers, and in what it includes, only lines after the include of the directory are
// commented out. A file that sudo ignores, because of its name, owner or mode, is left
// alone: rewriting it would put it in force.
//
// Nobody must ever be locked out. Nothing is written while root is the only allowed account
// that can log in. Before anything is written, sudo itself is run on the new files and must
// let in whoever it lets in now. Between any two writes root can administer, and so can the
// allowed of the old state or of the new one: before each of several writes sudo is asked what it would say
// after it, and if it does not answer, the files have to show it. Writes that only take plain grants,
// or lines about none of the allowed, are judged together. If sudo does not work afterwards, the old
// files are put back. Then sudo is asked what each person may do, whatever source that comes from.
//
// sudo/polkit does the same for polkit(8): the allowed are its administrators, by their own
// password. A rule may let other people act without one. So root asks polkit which of the
// actions that lead to root (rooting) each person may do, and each service account with a
// shell, outside of sessions and in every session. A rule that depends on more than
// polkit can be asked with (dependsOn) counts as granting all it could. The text of a rule only
// shows which file to blame. Grants of a package's rule are overruled by the agent's own rule, which
// polkit evaluates first. Out of scope are rules for actions that do not lead to root, and
// root shells that are open already.
//
// sudo/root_groups keeps people who are not allowed out of groups that are as good as root,
// if the policy names any.
//
// In an image nothing is running, so neither polkit nor the directory can be asked. It is
// judged by its files alone, as this package and the image's sudo read them. That is
// weaker: whether grants have an effect is not tested, and a polkit rule that grants
// something is found only on the running machine.
package sudo
