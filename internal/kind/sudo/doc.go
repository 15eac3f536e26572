// Package sudo keeps the right to administer the machine with those whom
// [sudo] allow names, and takes it from everybody else.
//
// Two files of the agent's own frame all others of /etc/sudoers.d, for of the
// lines of sudoers(5) that match, the last one decides:
//
//   - 0-soe-sudo sorts first and grants the allowed everything, as far as
//     /etc/sudoers does not already: what others grant them later, such as
//     NOPASSWD, stays as it is.
//   - zz-soe-sudo sorts last and denies everything to all but the allowed.
//
// Between them, lines that grant something to somebody else become comments, so
// that the next reader sees what is in force, and so that a file that sorts
// behind zz-soe-sudo cannot undo it. /etc/sudoers itself is never edited; what
// stands there behind the include, or an include that is not there, is reported.
//
// Nobody must ever be locked out. Nothing is written while none of the allowed
// but root is known to the machine, nor before visudo has accepted all files as
// they will be, and between any two writes the allowed of before or of after,
// and root always, can administer. Whether a person can use sudo is then asked of sudo itself.
//
// A second resource, sudo/polkit, keeps the same for polkit(8): the allowed, by
// their own password, are its administrators. Rules that let somebody do one
// thing without being an administrator are not its business, nor are shells of
// root that are open already.
package sudo
