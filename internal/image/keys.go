package image

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"regexp"
	"sync"
)

// lazily compiles an expression when it is asked for: the daemon has no use for it.
func lazily(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

// pemKey is a private key in text, of whatever sort, as a file has it or as JSON quotes it. A program
// that knows the first line has no key after it, nor has a manual.
var pemKey = lazily(`-----BEGIN ([A-Z0-9 ]*)PRIVATE KEY(?: BLOCK)?-----(?:\s|\\r|\\n)*(?:\z|[A-Za-z0-9+/=]{16}|(?:Proc-Type|Comment|Version|DEK-Info|Charset): )`)

var pemHint = []byte("PRIVATE KEY")

// keyIn says what sort of private key is in a part of a file, and where; "" is none. Of
// the part that a file begins with it also looks at what is no text.
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

// encodedPEM is how any PEM begins in base64, with what tells of which sort it is.
var encodedPEM = lazily(`LS0tLS1CRUdJTi[A-Za-z0-9+/]{34}`)

// encodedKey is where a private key in PEM is that is in base64 once more, as in what
// Kubernetes calls a secret; below 0 is nowhere.
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

// accessKeyIn is where the ID of an access key of AWS is in a part of a file, but for those of
// AWS's documents; below 0 is nowhere.
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

// keyFile is what sort of key a file is that begins so.
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

// keytab says whether a file that begins as one is one: its first entry lies within it
// (MIT, "Keytab file format").
func keytab(start []byte) bool {
	size := int32(binary.BigEndian.Uint32(start[2:])) // a hole has a negative size
	return size != 0 && size > -1<<16 && size < 1<<16
}

// javaKeys says whether a keystore holds a private or secret key and not only
// certificates, as the one does that every Java brings along.
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
			return true // a key, or one cannot tell
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

// Object identifiers of RFC 7292, as DER has them.
var (
	pkcs7Data = []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07}
	certBag   = []byte{0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x03}
	keyBag    = []byte{0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x01}
	shrouded  = []byte{0x06, 0x0b, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01, 0x02}
)

// pkcs12Keys says whether a PKCS#12 file holds a key. One of which nothing can be seen is
// taken for one; one of certificates alone, as a newer Java brings, is not.
func pkcs12Keys(start []byte) bool {
	head := start[:min(len(start), 32)]
	if len(head) < 20 || head[0] != 0x30 || !bytes.Contains(head[:12], []byte{0x02, 0x01, 0x03, 0x30}) || !bytes.Contains(head, pkcs7Data) {
		return false
	}
	return bytes.Contains(start, keyBag) || bytes.Contains(start, shrouded) || !bytes.Contains(start, certBag)
}

// largestDER is more than a key of 16384 bits takes.
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
