package pcoip

import (
	"bytes"
	"compress/gzip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/kind/kindtest"
)

// The layout of the real manual is not public. These have the same content in three layouts that
// manuals use.
var manuals = map[string]string{
	"man": `.\" a comment that names pcoip.not_this
.TH PCOIP-AGENT.CONF 5
.SH DESCRIPTION
Each line is \fIdirective\fR = \fIvalue\fR.
.SH DIRECTIVES
.TP
.B pcoip.server_clipboard_state
Which way the clipboard works. Values from 0 to 3.
Takes effect in the next session.
.TP
\fBpcoip.maximum_frame_rate\fR = <0\-60>
The range is 0 to 60 frames a second. This takes effect immediately.
.TP
.BR pcoip.data_encryption
The ciphers of the stream:
.br
0 \- AES-128 or AES-256
.br
1 \- AES-256-GCM only
.SH SEE ALSO
pcoip.conf(5), the range is 7 to 9
`,
	"mdoc": `.Dt PCOIP-AGENT.CONF 5
.Sh DIRECTIVES
.Bl -tag
.It server_clipboard_state
Value between 0 and 3, in effect in the next session.
.It "maximum_frame_rate"
Range: 0-60. Takes effect immediately.
.It data_encryption
.Bl -bullet
.It
0 = AES\-128 and AES\-256
.It
1 = AES\-256 only
.El
.El
`,
	"plain": `DIRECTIVES
   pcoip.server_clipboard_state =
       range 0 to 3, applied at the next session
   pcoip.maximum_frame_rate = 30
       range 0 to 60, takes effect immediately
   pcoip.data_encryption = 0
       0: AES-128 and AES-256
       1: AES-256 only
`,
}

func TestTheManualIsReadWhateverItsLayout(t *testing.T) {
	want := map[string]described{
		"server_clipboard_state": {ranged: true, max: 3},
		"maximum_frame_rate":     {ranged: true, max: 60, immediately: true},
		"data_encryption":        {aes256: "1"},
	}
	for layout, text := range manuals {
		m := parseManual(text)
		for key, d := range want {
			if got := m[key]; got != d {
				t.Errorf("%s: %s is %+v and not %+v", layout, key, got, d)
			}
		}
		if _, named := m["not_this"]; named {
			t.Errorf("%s: a comment is read", layout)
		}
		if why := m.refuses("enable_audio", "1"); !strings.Contains(why, "manual does not know it") {
			t.Errorf("%s: %q", layout, why)
		}
		if way, err := m.aes256(); err != nil || way["data_encryption"] != "1" || len(way) != 1 {
			t.Errorf("%s: %v %v", layout, way, err)
		}
	}
}

func TestWhatIsNoManualOfTheAgentSaysNothing(t *testing.T) {
	for _, text := range []string{"", "\x00\x01", ".SH NAME\nls - list\n", "pcoip.ranger range 1 to 2"} {
		if m := parseManual(text); m != nil || m.refuses("enable_audio", "1") != "" {
			t.Errorf("%q is read as %v", text, m)
		}
	}
}

func TestAES256IsDemandedOnlyInTheManualsWords(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want map[string]string
		err  string
	}{
		"switches": {
			"pcoip.enable_aes_128_gcm = 1\npcoip.enable_aes_256_gcm = 1\npcoip.enable_salsa20_256_round12 = 1\n",
			map[string]string{"enable_aes_128_gcm": "0", "enable_aes_256_gcm": "1", "enable_salsa20_256_round12": "0"},
			"",
		},
		"nothing":    {"pcoip.enable_audio = 1\n", nil, "names no directive for AES-256 only"},
		"two ways":   {"pcoip.enable_audio\n1 - AES-256 only\npcoip.enable_usb\n2 - AES-256 only\n", nil, "more than one"},
		"not only":   {"pcoip.enable_audio\n1 - AES-256 and others\n", nil, "names no directive for AES-256 only"},
		"no manual":  {"", nil, "it is not known which directive it is"},
		"half of it": {"pcoip.enable_aes_256_gcm = 1\n", nil, "names no directive for AES-256 only"},
	} {
		got, err := parseManual(test.text).aes256()
		if diff := cmp.Diff(test.want, got); diff != "" || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
}

func FuzzManual(f *testing.F) {
	for _, text := range manuals {
		f.Add(text)
	}
	f.Add(".IP \"\\f[B]pcoip.a_b\\f[]\" 4n\n0\\(en1 \\e\\")
	f.Fuzz(func(t *testing.T, text string) {
		m := parseManual(text)
		for key, d := range m {
			if key == "" || strings.ContainsAny(key, " \n=") || d.ranged && d.min >= d.max {
				t.Errorf("%q: %q %+v", text, key, d)
			}
		}
		m.refuses("enable_audio", "1")
		if way, err := m.aes256(); (err == nil) == (len(way) == 0) {
			t.Errorf("%q: %v %v", text, way, err)
		}
	})
}

func BenchmarkManual(b *testing.B) {
	text := strings.Repeat(strings.ReplaceAll(manuals["man"], "SEE ALSO", "MORE"), 60)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		parseManual(text)
	}
}

func addManual(t *testing.T, root, text string, packed bool) {
	t.Helper()
	name := manualPath
	if packed {
		name += ".gz"
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		if _, err := w.Write([]byte(text)); err != nil || w.Close() != nil {
			t.Fatal(err)
		}
		text = b.String()
	}
	kindtest.Put(t, root, name, text)
}

func TestTheManualOfTheInstalledAgentGoesBeforeTheCatalogue(t *testing.T) {
	const policy = "[pcoip]\nallow_unknown = true\nserver_clipboard_state = 0\nenable_audio = 0\n" +
		"maximum_frame_rate = 90\ndata_encryption = 0\nof_tomorrow = \"a  b\"\n"
	for _, packed := range []bool{false, true} {
		root := newImage(t, before)
		addManual(t, root, manuals["man"], packed)
		for _, r := range pass(t, root, policy, nil) {
			want, reason := converge.Corrected, ""
			switch r.ID.Name() {
			case "enable_audio", "of_tomorrow":
				want, reason = converge.Failed, "the installed agent's manual does not know it"
			case "maximum_frame_rate":
				want, reason = converge.Failed, "a number between 0 and 60"
			}
			if r.State != want || !strings.Contains(r.Reason, reason) || reason == "" && r.Reason != "" {
				t.Errorf("packed %v: %s is %s: %q", packed, r.ID, r.State, r.Reason)
			}
		}
		if strings.Contains(read(t, root), "of_tomorrow") {
			t.Error("what the manual does not know was set")
		}
	}
}

func TestAnUnknownDirectiveIsWrittenAsItIsAndCalledUnvalidated(t *testing.T) {
	root := newImage(t, before)
	const policy = "[pcoip]\nallow_unknown = true\nof_tomorrow = \"a  b=c\"\nserver_clipboard_state = 1\n"
	for _, want := range []converge.State{converge.Corrected, converge.Compliant} {
		for _, r := range pass(t, root, policy, nil) {
			unknown := r.ID == "pcoip/of_tomorrow"
			if unknown && r.State != want || unknown != strings.HasPrefix(r.Reason, "not validated") {
				t.Errorf("%s is %s: %q", r.ID, r.State, r.Reason)
			}
		}
	}
	if !strings.HasSuffix(read(t, root), "\npcoip.of_tomorrow = a  b=c\n") {
		t.Error(read(t, root))
	}
}

func TestEncryptionIsWhatTheManualNamesOrAnError(t *testing.T) {
	const policy = "pcoip.encryption = \"aes256\"\n"
	root := newImage(t, before)
	for _, r := range pass(t, root, policy, nil) {
		if r.State != converge.Failed || !strings.Contains(r.Reason, "it is not known which directive") {
			t.Error(r.State, r.Reason)
		}
	}
	if read(t, root) != before {
		t.Error("something was guessed")
	}
	addManual(t, root, manuals["man"], true)
	for _, want := range []converge.State{converge.Corrected, converge.Compliant} {
		for _, r := range pass(t, root, policy, nil) {
			if r.State != want {
				t.Error(r.State, r.Reason, r.Diff)
			}
		}
	}
	if got := read(t, root); got != before+"pcoip.data_encryption = 1\n" {
		t.Error(got)
	}
	for _, r := range pass(t, root, policy+"pcoip.data_encryption = 0\npcoip.allow_unknown = true\n", nil) {
		if r.ID == encryption() && (r.State != converge.Failed || !strings.Contains(r.Reason, "which the policy sets to 0")) {
			t.Error(r.State, r.Reason)
		}
	}
	pass(t, root, "", nil)
	if read(t, root) != before {
		t.Errorf("without it the file is\n%s", read(t, root))
	}
}
