// Package packages keeps the machine's software as the policy wants it: the
// repositories it comes from, the kind "repository", and the packages themselves,
// the kind "package".
//
// What is installed is what the rpm database says, asked once for all names and
// again only when the database has changed. Neither yum nor dnf is believed: their
// exit codes are 0 when a name is unknown, when nothing could be resolved, and
// when something else than wanted was installed.
//
// All that drifted is mended in one transaction. What is not right after it is
// tried by itself, so that one bad name stops nothing else and each gets the
// solver's own reason. A transaction runs in a scope of its own, outlives the
// agent, and is never sent a signal. What would be removed along with a package is
// known before: if that is something without which the desktop cannot be reached,
// or which the policy wants, the package stays.
//
// A repository's key is imported only when it is the one key whose fingerprint the
// policy names. The package manager is then pointed at the agent's verified copy,
// because with -y it would import whatever it finds at the key's URL, and keep it.
package packages
