package image

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"regexp"
	"sync"
)

// lazily compiles an expression on first use: the daemon does not need it.
func lazily(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

// pemKey matches a private key in text, of any sort, plain or quoted as JSON. A program or manual
// that contains only the first line has no key after it.
var pemKey = lazily(`-----BEGIN ([A-Z0-9 ]*)PRIVATE KEY(?: BLOCK)?-----(?:\s|\\r|\\n)*(?:\z|[A-Za-z0-9+/=]{16}|(?:Proc-Type|Comment|Version|DEK-Info|Charset): )`)

var pemHint = []byte("PRIVATE KEY")

// keyIn returns the sort of private key in a part of a file, and its offset, or "". In the first
// part of a file it also recognizes binary formats.
func keyIn(part []byte, first bool) (sort string, at int) {
	if first {
		if sort := keyFile(part); sort != "" {
			return sort, 0
		}
	}
	if at := encodedKey(part); at >= 0 {
		return "a private key (PEM, in base64)", at
	}
	if !bytes.Contains(part, pemHint) {
		return "", 0
	}
	match := pemKey().FindSubmatchIndex(part)
	if match == nil {
		return "", 0
	}
	switch kind := string(bytes.TrimSpace(part[match[2]:match[3]])); kind {
	case "", "ENCRYPTED":
		return "a private key (PEM)", match[0]
	default:
		return "a private key (" + kind + ")", match[0]
	}
}

// encodedPEM matches the beginning of any PEM in base64, including the name of its type.
var encodedPEM = lazily(`LS0tLS1CRUdJTi[A-Za-z0-9+/]{34}`)

// encodedKey returns the offset of a PEM private key that is base64-encoded once more, as in a
// Secret of Kubernetes, or -1.
func encodedKey(part []byte) int {
	if !bytes.Contains(part, []byte("LS0tLS1CRUdJTi")) {
		return -1
	}
	for _, at := range encodedPEM().FindAllIndex(part, -1) {
		if text, err := base64.StdEncoding.DecodeString(string(part[at[0]:at[1]])); err == nil && bytes.Contains(text, pemHint) {
			return at[0]
		}
	}
	return -1
}

// accessKeyIn returns the offset of an AWS access key ID in a part of a file, except those of AWS's
// documentation, or -1.
func accessKeyIn(part []byte) int {
	if !bytes.Contains(part, []byte("AKIA")) && !bytes.Contains(part, []byte("ASIA")) {
		return -1
	}
	for _, at := range awsKey().FindAllIndex(part, -1) {
		if !bytes.HasSuffix(part[at[0]:at[1]], []byte("EXAMPLE")) {
			return at[0]
		}
	}
	return -1
}

// keyFile returns the sort of key in a file with this beginning, or "".
func keyFile(start []byte) string {
	switch text := bytes.TrimSpace(start[:min(len(start), 64)]); {
	case bytes.HasPrefix(text, []byte("PuTTY-User-Key-File-")):
		return "a private key of PuTTY"
	case bytes.HasPrefix(text, []byte("AGE-SECRET-KEY-1")), bytes.HasPrefix(text, []byte("# created: ")) && bytes.Contains(start, []byte("AGE-SECRET-KEY-1")):
		return "a private key of age"
	case bytes.HasPrefix(text, []byte("(11:private-key")), bytes.HasPrefix(text, []byte("(21:protected-private-key")), bytes.HasPrefix(text, []byte("Key: (private-key")),
		bytes.HasPrefix(text, []byte("Key: (protected-private-key")), bytes.HasPrefix(text, []byte("Created: ")) && bytes.Contains(start[:min(len(start), 4096)], []byte("private-key")):
		return "a private key of GnuPG"
	case len(start) > 2 && start[0] == 5 && (start[1] == 1 || start[1] == 2) && len(start) > 10 && keytab(start):
		return "a Kerberos keytab"
	case javaKeys(start):
		return "a Java keystore with a private key"
	case pkcs12Keys(start):
		return "a PKCS#12 file with a private key"
	case derKey(start):
		return "a private key (DER)"
	}
	return ""
}

// keytab reports whether a file that begins like a keytab is one: its first entry lies within it
// (MIT, "Keytab file format").
func keytab(start []byte) bool {
	size := int32(binary.BigEndian.Uint32(start[2:])) // a hole has a negative size
	return size != 0 && size > -1<<16 && size < 1<<16
}

// javaKeys reports whether a keystore holds a private or secret key. The one that comes with every
// Java has only certificates.
func javaKeys(start []byte) bool {
	if len(start) < 12 {
		return false
	}
	magic, version := binary.BigEndian.Uint32(start), binary.BigEndian.Uint32(start[4:])
	if magic != 0xFEEDFEED && magic != 0xCECECECE || version < 1 || version > 2 {
		return false
	}
	entries, rest := binary.BigEndian.Uint32(start[8:]), start[12:]
	take := func(n int) ([]byte, bool) {
		if n < 0 || len(rest) < n {
			return nil, false
		}
		field := rest[:n]
		rest = rest[n:]
		return field, true
	}
	text := func() bool {
		size, ok := take(2)
		if ok {
			_, ok = take(int(binary.BigEndian.Uint16(size)))
		}
		return ok
	}
	for range entries {
		tag, ok := take(4)
		if !ok || binary.BigEndian.Uint32(tag) != 2 {
			return true // a key, or an unknown entry
		}
		ok = text()
		if ok {
			_, ok = take(8)
		}
		if ok && version == 2 {
			ok = text()
		}
		size, more := take(4)
		if ok && more {
			_, ok = take(int(binary.BigEndian.Uint32(size)))
		}
		if !ok || !more {
			return true
		}
	}
	return false
}

// Object identifiers of RFC 7292 in DER.
var (
	pkcs7Data = []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07}
	certBag   = []byte{0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x03}
	keyBag    = []byte{0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x01}
	shrouded  = []byte{0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x02}
)

// pkcs12Keys reports whether a PKCS#12 file holds a key. A file that reveals nothing counts as one;
// a file with only certificates, as a newer Java brings, does not.
func pkcs12Keys(start []byte) bool {
	head := start[:min(len(start), 32)]
	if len(head) < 20 || head[0] != 0x30 || !bytes.Contains(head[:12], []byte{0x02, 0x01, 0x03, 0x30}) || !bytes.Contains(head, pkcs7Data) {
		return false
	}
	return bytes.Contains(start, keyBag) || bytes.Contains(start, shrouded) || !bytes.Contains(start, certBag)
}

// largestDER is more than the size of a key of 16384 bits.
const largestDER = 32 << 10

func derKey(start []byte) bool {
	if len(start) < 32 || len(start) > largestDER || start[0] != 0x30 {
		return false
	}
	_, err8 := x509.ParsePKCS8PrivateKey(start)
	_, err1 := x509.ParsePKCS1PrivateKey(start)
	_, errEC := x509.ParseECPrivateKey(start)
	return err8 == nil || err1 == nil || errEC == nil
}
