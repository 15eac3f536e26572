package packages

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // by which the fingerprint of a version 4 key is defined
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// publicKey is one OpenPGP key with its user IDs, signatures and subkeys (RFC 4880, 11.1).
type publicKey struct {
	fingerprint string // 40 hexadecimal digits in upper case
	packets     []byte
}

const (
	armorBegin = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
	armorEnd   = "-----END PGP PUBLIC KEY BLOCK-----"
)

// parseKeys reads the keys in a file, armoured or binary. It returns at least one key or an error.
func parseKeys(content []byte) ([]publicKey, error) {
	if len(content) > 0 && content[0]&0x80 != 0 {
		return splitKeys(content)
	}
	var keys []publicKey
	for text := string(content); ; {
		packets, rest, err := dearmor(text)
		if err != nil {
			return nil, err
		}
		there, err := splitKeys(packets)
		if err != nil {
			return nil, err
		}
		keys = append(keys, there...)
		if !strings.Contains(rest, "-----BEGIN PGP") {
			return keys, nil
		}
		text = rest
	}
}

// splitKeys splits consecutive keys.
func splitKeys(packets []byte) (keys []publicKey, err error) {
	for rest := packets; len(rest) > 0; {
		tag, body, after, err := nextPacket(rest)
		if err != nil {
			return nil, err
		}
		packet := rest[:len(rest)-len(after)]
		rest = after
		switch {
		case tag == 5 || tag == 7:
			return nil, errors.New("it is a private key, which must not be here")
		case tag != 6 && len(keys) == 0:
			return nil, errors.New("it does not begin with a public key")
		case tag == 6 && (len(body) == 0 || body[0] != 4):
			return nil, errors.New("it is not a version 4 key, the only one that rpm knows")
		case tag == 6:
			keys = append(keys, publicKey{fingerprint: fingerprint(body)})
		}
		last := &keys[len(keys)-1]
		last.packets = append(last.packets, packet...)
	}
	if len(keys) == 0 {
		return nil, errors.New("it holds no key")
	}
	return keys, nil
}

// fingerprint returns the fingerprint of a version 4 key (RFC 4880, 12.2).
func fingerprint(body []byte) string {
	hash := sha1.New() //nolint:gosec // see the import
	hash.Write([]byte{0x99})
	hash.Write(binary.BigEndian.AppendUint16(nil, uint16(len(body))))
	hash.Write(body)
	return fmt.Sprintf("%X", hash.Sum(nil))
}

var errCut = errors.New("it is cut short, or no OpenPGP key")

// nextPacket reads a packet's header (RFC 4880, 4.2). It refuses packets of indeterminate or
// partial length, which keys do not have.
func nextPacket(data []byte) (tag byte, body, rest []byte, err error) {
	if len(data) < 2 || data[0]&0x80 == 0 {
		return 0, nil, nil, errCut
	}
	var size, width int
	first := int(data[1])
	switch header := data[0]; {
	case header&0x40 == 0 && header&3 == 3, header&0x40 != 0 && first >= 224 && first < 255:
		return 0, nil, nil, errors.New("it has a packet of unknown length")
	case header&0x40 == 0:
		tag, width = header>>2&0xf, 1<<(header&3)
	case first < 192:
		tag, size = header&0x3f, first
		data = data[2:]
	case first < 224:
		if len(data) < 3 {
			return 0, nil, nil, errCut
		}
		tag, size = header&0x3f, (first-192)<<8+int(data[2])+192
		data = data[3:]
	default:
		tag, width = header&0x3f, 4
		data = data[1:]
	}
	if width > 0 {
		if len(data) < 1+width {
			return 0, nil, nil, errCut
		}
		for _, b := range data[1 : 1+width] {
			size = size<<8 | int(b)
		}
		data = data[1+width:]
	}
	if size > len(data) || tag == 6 && size > 0xffff {
		return 0, nil, nil, errCut
	}
	return tag, data[:size], data[size:], nil
}

// dearmor decodes the first armoured block in a text (RFC 4880, 6.2) and returns the text after it.
func dearmor(text string) (packets []byte, rest string, err error) {
	_, block, found := strings.Cut(text, armorBegin)
	block, after, ended := strings.Cut(block, armorEnd)
	if !found || !ended {
		return nil, "", errors.New("it holds no public key in OpenPGP armour")
	}
	lines := strings.Split(strings.ReplaceAll(block, "\r", ""), "\n")
	blank := slices.IndexFunc(lines[1:], func(line string) bool { return strings.TrimSpace(line) == "" })
	if blank < 0 {
		return nil, "", errCut
	}
	var body strings.Builder
	for _, line := range lines[1+blank:] {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "=") {
			break // skip the checksum: the fingerprint is stronger
		}
		body.WriteString(line)
	}
	packets, err = base64.StdEncoding.DecodeString(body.String())
	if err != nil {
		return nil, "", fmt.Errorf("its armour is damaged: %w", err)
	}
	return packets, after, nil
}

// armored returns the key as a file for rpm --import. It contains what was parsed and nothing else,
// so that rpm sees the same key as this package.
func (k publicKey) armored() []byte {
	var b bytes.Buffer
	b.WriteString(armorBegin + "\n\n")
	for line := range slices.Chunk([]byte(base64.StdEncoding.EncodeToString(k.packets)), 64) {
		b.Write(line)
		b.WriteByte('\n')
	}
	sum := crc24(k.packets)
	b.WriteString("=" + base64.StdEncoding.EncodeToString([]byte{byte(sum >> 16), byte(sum >> 8), byte(sum)}) + "\n")
	b.WriteString(armorEnd + "\n")
	return b.Bytes()
}

// crc24 returns the checksum of the armour (RFC 4880, 6.1). rpm 4.11 does not accept a key without
// it.
func crc24(data []byte) uint32 {
	crc := uint32(0xb704ce)
	for _, b := range data {
		crc ^= uint32(b) << 16
		for range 8 {
			if crc <<= 1; crc&0x1000000 != 0 {
				crc ^= 0x1864cfb
			}
		}
	}
	return crc & 0xffffff
}
