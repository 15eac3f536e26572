// Package sudo keeps the right to administer the machine with those whom
// [sudo] allow names, and takes it from everybody else.
//
// Two files of the agent's own frame all others of /etc/sudoers.d, for of the
// lines of sudoers(5) that match, the last one decides:
//
//   - 0-soe-sudo sorts first and grants the allowed everything, as far as
//     /etc/sudoers does not already: what others grant them later, such as
//     NOPASSWD, stays as it is.
//   - zz-soe-sudo sorts last and denies everything to all but the allowed; behind that it
//     grants the single commands of [sudo.commands].
//
// Between them, lines that grant something to somebody else become comments, so
// that the next reader sees what is in force, and so that a file that sorts
// behind zz-soe-sudo cannot undo it; of a line that grants it to the allowed as well, the
// part that is theirs stands below. So do Defaults by which sudo asks less than
// it does by itself; zz-soe-sudo undoes those that stand elsewhere. Of
// /etc/sudoers itself, and of what it includes, only lines behind the include of the
// directory become comments. A file that sudo passes over, for its name, owner or
// mode, is passed over here too: to write it would put it in force.
//
// Nobody must ever be locked out. Nothing is written while none of the allowed
// but root is known to the machine, nor before sudo itself has been shown all files as
// they will be (sudoers.Ask) and lets in whom it lets in now; and between any two
// writes the allowed of before or of after, and root always, can administer. When sudo
// does not work with what is there afterwards, the files are put back. What a person can
// do with sudo is then asked of sudo itself, whatever source it has that from.
//
// sudo/polkit keeps the same for polkit(8): the allowed, by their own password, are
// its administrators. A rule may let somebody be one without: root asks polkit what each
// person, and each account of a service with a shell, may do of what makes root (rooting), without a session
// and with each one there is. A text that goes by more than polkit can be asked with (dependsOn) is taken to grant all it could.
// The texts of rules say only where the blame is. What a package gives is taken back
// by the agent's own rule, which polkit asks first. Rules that let somebody do one thing are
// not the kind's business, nor are shells of root that are open already.
//
// sudo/root_groups keeps people who are not allowed out of groups that are as good
// as root, if the policy names any.
//
// In an image that does not run nothing is in effect, and there is no polkit to ask.
// It is judged by its files alone, as this package reads them and sudo in the image
// works with them. That is weaker: nobody says that a grant has
// no effect, and a rule of polkit that is one is found only once the machine runs.
package sudo
