package packages

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const keyOne = "F5D156897D927EE65153E90D303480B00CE7DFD2" // of testdata/one.asc, as gpg --fingerprint shows it

func testdata(t testing.TB, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestTheFingerprintsAreThoseOfTheKeysInAFile(t *testing.T) {
	for _, name := range []string{"one.asc", "one.gpg"} {
		keys, err := parseKeys(testdata(t, name))
		if err != nil || len(keys) != 1 || keys[0].fingerprint != keyOne {
			t.Errorf("%s: %v, %v", name, keys, err)
		}
	}
	withHeader := bytes.Replace(testdata(t, "one.asc"), []byte("BLOCK-----\n\n"), []byte("BLOCK-----\r\nVersion: GnuPG v2\r\n \r\n"), 1)
	if keys, err := parseKeys(append([]byte("A key of ours.\n\n"), withHeader...)); err != nil || len(keys) != 1 || keys[0].fingerprint != keyOne {
		t.Errorf("with a header: %v, %v", keys, err)
	}
	for _, name := range []string{"two-keys.asc", "two-blocks.asc"} {
		keys, err := parseKeys(testdata(t, name))
		if err != nil || len(keys) != 2 || keys[0].fingerprint != keyOne || keys[1].fingerprint == keyOne {
			t.Errorf("%s: %v, %v", name, keys, err)
		}
	}
}

func TestAFileThatHoldsAnythingButKeysIsRefused(t *testing.T) {
	one := testdata(t, "one.gpg")
	for name, c := range map[string]struct {
		content []byte
		why     string
	}{
		"a signature":     {append(testdata(t, "one.asc"), "-----BEGIN PGP SIGNATURE-----\n"...), "no public key"},
		"no key":          {[]byte("<html>not found</html>"), "no public key"},
		"nothing":         {nil, "no public key"},
		"cut short":       {one[:len(one)-1], "cut short"},
		"cut armour":      {testdata(t, "one.asc")[:900], "no public key"},
		"damaged armour":  {bytes.Replace(testdata(t, "one.asc"), []byte("mQ"), []byte("m!"), 1), "armour is damaged"},
		"a private key":   {append([]byte{0xc5, 1, 4}, one...), "private key"},
		"a name first":    {append([]byte{0xcd, 1, 'x'}, one...), "does not begin with a public key"},
		"version 3":       {[]byte{0xc6, 1, 3}, "version 4"},
		"a partial body":  {[]byte{0xc6, 0xe1, 4, 4}, "unknown length"},
		"no length":       {[]byte{0x9b, 4, 4}, "unknown length"},
		"a length beyond": {[]byte{0xc6, 0xff, 0xff, 0xff, 0xff, 0xff}, "cut short"},
	} {
		if _, err := parseKeys(c.content); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestArmourIsReadAsItWasWritten(t *testing.T) {
	keys, err := parseKeys(testdata(t, "one.gpg"))
	if err != nil {
		t.Fatal(err)
	}
	key := keys[0]
	// gpg writes the same bytes, including the checksum.
	if got := key.armored(); !bytes.Equal(got, testdata(t, "one.asc")) {
		t.Errorf("it is written as\n%s", got)
	}
}

func FuzzParsingAKey(f *testing.F) {
	for _, name := range []string{"one.asc", "one.gpg", "two-keys.asc", "two-blocks.asc"} {
		f.Add(testdata(f, name))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		keys, err := parseKeys(content)
		if err != nil {
			return
		}
		for _, key := range keys {
			again, err := parseKeys(key.armored())
			if err != nil || len(again) != 1 || again[0].fingerprint != key.fingerprint {
				t.Errorf("%s becomes %v, %v", key.fingerprint, again, err)
			}
		}
	})
}

func TestTheRPMOfThisMachineImportsWhatIsWritten(t *testing.T) {
	rpm, err := exec.LookPath("rpmkeys")
	if err != nil {
		t.Log("there is none; the machines of the end-to-end tests have one")
		return
	}
	keys, err := parseKeys(testdata(t, "one.gpg"))
	if err != nil {
		t.Fatal(err)
	}
	key := keys[0]
	file, db := filepath.Join(t.TempDir(), "key"), t.TempDir()
	if err := os.WriteFile(file, key.armored(), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(rpm, "--dbpath", db, "--import", file).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
