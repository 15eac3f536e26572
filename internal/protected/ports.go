package protected

import (
	"net/netip"
	"slices"
)

// A Direction is where a connection is opened from.
type Direction string

// The directions: to this machine, and from it.
const (
	In  Direction = "in"
	Out Direction = "out"
)

// A Port is what stays open on a WorkSpace whatever a policy says: without it the session ends, or nobody
// can log in, or AWS or the agent cannot reach the machine.
type Port struct {
	Direction Direction
	Protocol  string // "tcp" or "udp"
	Low, High uint16
	Peer      netip.Prefix // the other end; the zero Prefix: any
	Why       string
	Source    string
}

// Sources of Ports. What a WorkSpace uses is AWS's word; the others are of the protocols' own documents.
const (
	workspaces = "WorkSpaces Administration Guide, IP address and port requirements"
	dhcp       = "RFC 2131, section 4.1"
	dhcp6      = "RFC 8415, section 7.2"
	kerberos   = "RFC 3244, section 2"
	ldaps      = "IANA, Service Name and Transport Protocol Port Number Registry"
)

// Ports are all that stays open. What belongs to connections that are there already, the loopback interface
// and ICMPv6, without which there is no IPv6 (RFC 4890), stay open besides.
//
// On which interface AWS's management network is differs, and so do its addresses from region to region:
// the ports are open on all interfaces, and a security group says who reaches them.
func Ports() []Port {
	var everybody netip.Prefix
	metadata, clock := netip.MustParsePrefix("169.254.169.254/32"), netip.MustParsePrefix("169.254.169.123/32")
	return []Port{
		{In, "tcp", 4172, 4172, everybody, "PCoIP streams by it", workspaces},
		{In, "udp", 4172, 4172, everybody, "PCoIP streams by it", workspaces},
		{In, "tcp", 4195, 4195, everybody, "DCV streams by it", workspaces},
		{In, "udp", 4195, 4195, everybody, "DCV streams by it", workspaces},
		{In, "tcp", 4489, 4489, everybody, "WorkSpaces manages the desktop by it", workspaces},
		{In, "tcp", 8200, 8200, everybody, "WorkSpaces manages the desktop by it", workspaces},
		{In, "tcp", 8201, 8250, everybody, "DCV's host is reached by it", workspaces},
		{In, "udp", 8220, 8220, everybody, "DCV's host is reached by it", workspaces},
		{In, "udp", 68, 68, everybody, "the machine gets its address by DHCP", dhcp},
		{In, "udp", 546, 546, everybody, "the machine gets its address by DHCP", dhcp6},

		{Out, "udp", 3478, 3478, everybody, "the session streams by it", workspaces},
		{Out, "udp", 4172, 4172, everybody, "PCoIP streams by it", workspaces},
		{Out, "udp", 4195, 4195, everybody, "DCV streams by it", workspaces},
		{Out, "udp", 50002, 50002, everybody, "PCoIP streams by it", workspaces},
		{Out, "udp", 55002, 55002, everybody, "PCoIP streams by it", workspaces},
		{Out, "tcp", 80, 80, metadata, "it is AWS's metadata service", workspaces},
		{Out, "udp", 123, 123, clock, "it is AWS's clock, and without the right time nobody logs in", "Amazon EC2 User Guide, Amazon Time Sync Service"},
		{Out, "tcp", 443, 443, everybody, "Systems Manager, and with it the agent's policy, is reached by it", workspaces},
		{Out, "udp", 67, 67, everybody, "the machine gets its address by DHCP", dhcp},
		{Out, "udp", 547, 547, everybody, "the machine gets its address by DHCP", dhcp6},
		{Out, "tcp", 53, 53, everybody, "names are found by it", workspaces},
		{Out, "udp", 53, 53, everybody, "names are found by it", workspaces},
		{Out, "tcp", 88, 88, everybody, "people log in by it (Kerberos)", workspaces},
		{Out, "udp", 88, 88, everybody, "people log in by it (Kerberos)", workspaces},
		{Out, "udp", 123, 123, everybody, "the directory tells the time by it, and without the right time nobody logs in", workspaces},
		{Out, "tcp", 135, 135, everybody, "people log in by it (the directory's RPC)", workspaces},
		{Out, "udp", 137, 138, everybody, "people log in by it (NetBIOS)", workspaces},
		{Out, "tcp", 139, 139, everybody, "people log in by it (SMB)", workspaces},
		{Out, "tcp", 389, 389, everybody, "people log in by it (LDAP)", workspaces},
		{Out, "udp", 389, 389, everybody, "people log in by it (LDAP)", workspaces},
		{Out, "tcp", 445, 445, everybody, "people log in by it (SMB)", workspaces},
		{Out, "tcp", 464, 464, everybody, "people change an expired password by it (Kerberos)", kerberos},
		{Out, "udp", 464, 464, everybody, "people change an expired password by it (Kerberos)", kerberos},
		{Out, "tcp", 636, 636, everybody, "people log in by it (LDAP)", ldaps},
		{Out, "tcp", 1024, 65535, everybody, "the directory's RPC, and WorkSpaces (8443, 9997), answer on any of them", workspaces},
	}
}

// Closes says why what a rule denies must stay open, or "" when it may be closed. The rule is about the ports low to
// high of a protocol and about these peers; "" is every protocol, and no peers are all of them. A rule that
// names no ports, of which high is 0, is about whatever else there is: it closes only what is of one peer
// that it names.
func Closes(d Direction, protocol string, low, high uint16, peers []netip.Prefix) string {
	for _, p := range Ports() {
		ofOne := p.Peer.IsValid()
		switch {
		case p.Direction != d, protocol != "" && p.Protocol != protocol:
		case ofOne && !slices.ContainsFunc(peers, p.Peer.Overlaps):
		case high == 0 && !ofOne, high != 0 && (high < p.Low || p.High < low):
		default:
			return p.Why
		}
	}
	return ""
}
