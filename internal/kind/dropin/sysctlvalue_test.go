package dropin

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAValueOfTheKernelIsKnownInTheKernelsFormat(t *testing.T) {
	for _, c := range []struct {
		want, got string
		same      bool
	}{
		{"8080,8081,9000-9010", "8080-8081,9000-9010", true},
		{"9000-9010,8081,8080", "8080-8081,9000-9010", true},
		{"8080-8085,8083-8090", "8080-8090", true},
		{"5-5", "5", true},
		{"8080", "8080-8081", false},
		{"8080,8082", "8080-8082", false},
		{"8080,9000-9010", "", false},
		{"", "8080", false},
		{"", "", true},
		{"0-1", "0-1", true},
		{"3", "3 4 1 7", true}, // kernel.printk
		{"4 4", "3 4 1 7", false},
		{"3 4 1 7 9", "3 4 1 7", false},
		{"core", "core x", false},
		{"0x10", "16", true},
		{"010", "8", true},
		{"0xffffffffffffffff", "18446744073709551615", true},
		{"10", "00000010", true}, // a mask of processors
		{"8", "00000010", false},
		{"0xF", "0000000f", true},
		{"1,0000000f", "00000001,0000000f", true},
		{"1", "00000001,0000000f", false},
		{"1", "2", false},
		{"-1", "-1", true},
		{"9-1", "1-9", false},
		{"1024-65000", "1024 65000", false},
		{"cubic", "reno", false},
	} {
		if same := sameSysctl(c.want, c.got); same != c.same {
			t.Errorf("%q and %q: %v", c.want, c.got, same)
		}
	}
}

func TestAKeyOfTheKernelIsReadAsSystemdReadsIt(t *testing.T) {
	got := sysctlSettings("- net.ipv4.tcp_fin_timeout = 35\n-\tnet.ipv4.a=1\n/net/ipv4/b = 1\nnet..ipv4.c = 1\n- net.ipv4.excluded\nnet/../kernel/core_pattern = x\na.//.b = 1\n- = 1\n")
	if diff := cmp.Diff(map[string]string{"net/ipv4/tcp_fin_timeout": "35", "net/ipv4/a": "1", "net/ipv4/b": "1", "net/ipv4/c": "1"}, got); diff != "" {
		t.Errorf("(- wanted, + got):\n%s", diff)
	}
}
