// Package packages implements three kinds: "repository" for the repositories that software comes
// from, "package" for the packages themselves, and "patch" for updates.
//
// The rpm database says what is installed. It is queried once for all names, and again only when
// the database has changed. The output of yum and dnf does not count: they exit with 0 when a name
// is unknown, when nothing could be resolved, and when they installed something other than what was
// wanted.
//
// Everything that drifted is repaired in one transaction. What is not right after that is tried
// again in smaller parts and finally alone, so that one bad name stops nothing else and each
// package gets the solver's own reason. A transaction runs in a systemd scope of its own, outlives
// the agent, and is never sent a signal. Before a removal the agent finds out what would be removed
// along with the package. If that includes something that is needed to reach the desktop, or that
// the policy wants, the package stays.
//
// A repository's key is imported only if it has a fingerprint that the policy names. The package
// manager is then pointed at the agent's verified copy, because with -y it would import, and keep,
// whatever it finds at the key's URL.
package packages
