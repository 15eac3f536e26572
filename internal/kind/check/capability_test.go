package check

import "testing"

func TestOnlyWordsThatOnlyReadGetWhatTheKernelAsksForThat(t *testing.T) {
	for _, run := range [][]string{
		{"/usr/sbin/nft", "list", "ruleset"},
		{"/sbin/nft", "-a", "-nn", "list", "table", "inet", "filter"},
		{"/usr/sbin/nft", "-j", "list", "chain", "inet", "filter", "in-put"},
		{"/usr/sbin/auditctl", "-s"},
		{"/sbin/auditctl", "-l"},
	} {
		if len(asks(run)) != 1 {
			t.Errorf("%q gets nothing", run)
		}
	}
	for _, run := range [][]string{
		{"/usr/sbin/nft"},
		{"/usr/sbin/nft", "-a"},
		{"/usr/sbin/nft", "flush", "ruleset"},
		{"/usr/sbin/nft", "list", "ruleset;", "flush", "ruleset"},
		{"/usr/sbin/nft", "list", "ruleset\nflush ruleset"},
		{"/usr/sbin/nft", "list", "ruleset", ";flush ruleset"},
		{"/usr/sbin/nft", "-f", "/etc/nftables.conf", "list"},
		{"/usr/sbin/nft", "-i", "list", "ruleset"},
		{"/usr/sbin/nft", "list", "ruleset", "-f", "/etc/nftables.conf"},
		{"/usr/sbin/nft", "list", "ruleset", "--file", "x"},
		{"/usr/sbin/nft", "--define", "list", "list", "ruleset"},
		{"/usr/sbin/nft", "list", "ruleset", "{ flush }"},
		{"/home/user/nft", "list", "ruleset"},
		{"/bin/sh", "-c", "/usr/sbin/nft list ruleset"},
		{"/usr/sbin/auditctl"},
		{"/usr/sbin/auditctl", "-D"},
		{"/usr/sbin/auditctl", "-e", "0"},
		{"/usr/sbin/auditctl", "-l", "-D"},
		{"/usr/sbin/auditctl", "-R", "/etc/audit/audit.rules"},
	} {
		if got := asks(run); got != nil {
			t.Errorf("%q gets %v", run, got)
		}
	}
}
