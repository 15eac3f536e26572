package check

import (
	"regexp"
	"slices"

	"golang.org/x/sys/unix"
)

// The kernel shows packet filters and audit rules only to processes that may also change them. So a
// check gets that capability only if it runs one known program with arguments that only read.

var (
	nftFlag = regexp.MustCompile(`^-[ajnNpsStuy]+$`) // how nft(8) prints; none reads a file or takes commands
	nftWord = regexp.MustCompile(`^[A-Za-z0-9_./][A-Za-z0-9_./-]*$`)
)

// asks returns the capabilities that a check of root needs for its queries to the kernel, besides
// those for reading files.
func asks(run []string) []int {
	switch run[0] {
	case "/usr/sbin/nft", "/sbin/nft":
		words := run[1:]
		for len(words) > 0 && nftFlag.MatchString(words[0]) {
			words = words[1:]
		}
		// nft joins its arguments: a semicolon or a line break in one starts another command.
		if len(words) > 0 && words[0] == "list" && !slices.ContainsFunc(words, func(w string) bool { return !nftWord.MatchString(w) }) {
			return []int{unix.CAP_NET_ADMIN}
		}
	case "/usr/sbin/auditctl", "/sbin/auditctl":
		if len(run) == 2 && (run[1] == "-s" || run[1] == "-l") {
			return []int{unix.CAP_AUDIT_CONTROL}
		}
	}
	return nil
}
