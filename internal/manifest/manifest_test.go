package manifest_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/manifest"
	"github.com/soe-agent/soe-agent/internal/policy"
)

func entry(t *testing.T, name, text string, personas ...string) manifest.Entry {
	t.Helper()
	e, _, err := manifest.Pack("/soe/prod", name, text, personas)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestAManifestIsReadAsItWasWritten(t *testing.T) {
	stable := manifest.Generation{Serial: 42, Fragments: []manifest.Entry{entry(t, "10-base", "schema = 1\n")}}
	for _, m := range []manifest.Manifest{
		{Schema: 1, Generation: stable},
		{Schema: 1, Generation: stable, Pause: true},
		{Schema: 1, Generation: stable, Rollout: &manifest.Rollout{
			Generation: manifest.Generation{Serial: 43, Fragments: []manifest.Entry{
				entry(t, "10-base", "schema = 1\n# new\n", "base"), entry(t, "20-dev", "{{fact:hostname}}", "developer", "tester"),
			}},
			Percent: 12.5, Salt: "b1946ac9",
		}},
	} {
		text, err := m.Text()
		if err != nil {
			t.Fatal(err)
		}
		read, err := manifest.Parse("/soe/prod/manifest", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if diff := cmp.Diff(m, read); diff != "" {
			t.Error(diff)
		}
	}
}

func TestAManifestThatIsTooLargeIsPackedAndFortyFragmentsInTwoGenerationsFitAStandardParameter(t *testing.T) {
	m := manifest.Manifest{Schema: 1, Generation: manifest.Generation{Serial: 42}}
	for i := range 40 {
		m.Fragments = append(m.Fragments, entry(t, fmt.Sprintf("%02d-of-the-fleet", i), fmt.Sprintf("schema = 1\n# %d\n", i), "developer"))
	}
	newer := slices.Clone(m.Fragments)
	newer[7] = entry(t, "07-of-the-fleet", "schema = 1\n# newer\n", "developer")
	m.Rollout = &manifest.Rollout{Generation: manifest.Generation{Serial: 43, Fragments: newer}, Percent: 10, Salt: "x"}
	text, err := m.Text()
	if err != nil || len(text) > manifest.LargestValue {
		t.Fatalf("%d bytes, %v", len(text), err)
	}
	read, err := manifest.Parse("/m", text)
	if diff := cmp.Diff(m, read); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	_, err = manifest.Parse("/m", text[:len(text)/2])
	if problems := policy.AsProblems(err); len(problems) != 1 || !strings.HasPrefix(problems[0].Message, "cannot read the manifest: it is packed, and ") {
		t.Error(err)
	}
}

func TestEverythingThatIsWrongWithAManifestIsSaidWithItsPlace(t *testing.T) {
	digest := strings.Repeat("a", 64)
	for _, test := range []struct {
		text string
		want []string
	}{
		{"schema = 1\nserial = ", []string{"/m:2: cannot read the manifest: "}},
		{"schema = 3\nkey = 1", []string{"/m: cannot use the manifest: this agent knows the schemas 1 and 2, and not 3; upgrade the agent"}},
		{"schema = 1\nserial = 0\nround = true", []string{
			"/m: cannot use the manifest: unknown key round",
			"/m: cannot use the manifest: its serial is 0, and not 1 or more",
		}},
		{
			"schema = 1\nserial = 4\n[[fragment]]\nname=\"a\"\nparameter=\"/a\"\nsha256=\"" + digest + "\"\nencoding=\"zip\"\nparts=101\n[[fragment]]\nname=\"a\"",
			[]string{
				`/m: cannot use the manifest: the fragment "a" has the encoding "zip", which this agent does not know`,
				`/m: cannot use the manifest: the fragment "a" has 101 parts, and not 1 to 100`,
				`/m: cannot use the manifest: two fragments are called "a"`,
				`/m: cannot use the manifest: the fragment "a" lacks its name, parameter or sha256`,
			},
		},
		{"schema = 1\nserial = 4\nSerial = 5\n", []string{"/m: cannot use the manifest: unknown key Serial"}},
		{"schema = 1\nserial = 4\n[[fragment]]\nname = \"a\"\nparameter = \"/a\"\nParameter = \"/b\"\nsha256 = \"" + digest + "\"\n", []string{
			"/m: cannot use the manifest: unknown key fragment.Parameter",
		}},
		{"schema = 1\nx = " + strings.Repeat("[", 33), []string{"/m:2: cannot read the manifest: tables and arrays are nested more than 32 deep"}},
		{"schema = 1\nserial = 4\n[rollout]\nserial = 4\npercent = 101", []string{
			"/m: cannot use the manifest: the rollout's serial is 4, and not greater than 4",
			"/m: cannot use the manifest: the rollout is for 101 percent, and not for 0 to 100",
			"/m: cannot use the manifest: the rollout has no salt",
		}},
		{"schema = 1\nserial = 4\n[rollout]\nserial = 5\npercent = nan\nsalt = \"x\"", []string{
			"/m: cannot use the manifest: the rollout is for NaN percent, and not for 0 to 100",
		}},
	} {
		_, err := manifest.Parse("/m", test.text)
		problems := policy.AsProblems(err)
		if len(problems) != len(test.want) {
			t.Errorf("%q: %v", test.text, err)
			continue
		}
		for i, p := range problems {
			if !strings.HasPrefix(p.Error(), test.want[i]) {
				t.Errorf("%q: %s, not %s", test.text, p, test.want[i])
			}
		}
	}
}

func TestAFragmentIsReadAsItWasPackedAndEachOfItsPartsFitsAStandardParameter(t *testing.T) {
	var noise strings.Builder // does not compress
	for i := range 3000 {
		fmt.Fprintf(&noise, "%s\n", manifest.Digest(fmt.Sprint(i)))
	}
	for name, text := range map[string]string{
		"plain": "schema = 1\n", "empty": "", "reference": "x = \"{{resolve:ssm:/a}}\"\n",
		"large": strings.Repeat("content = \"always the same\"\n", 1000), "larger": noise.String(),
	} {
		e, parameters, err := manifest.Pack("/soe/prod/", name, text, nil)
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]string{}
		for _, p := range parameters {
			if len(p.Value) > manifest.LargestValue || p.Value == "" || strings.Contains(p.Value, "{{") || !strings.HasPrefix(p.Name, "/soe/prod/policy/"+name+"/") {
				t.Errorf("%s: the parameter %s has %d bytes", name, p.Name, len(p.Value))
			}
			values[p.Name] = p.Value
		}
		if got, err := e.Assemble(values, nil); err != nil || got != text {
			t.Errorf("%s: %d bytes became %d, %v", name, len(text), len(got), err)
		}
	}
	if e := entry(t, "larger", noise.String()); e.Parts < 2 {
		t.Errorf("%d parts", e.Parts)
	}
}

func TestWhatCannotBePublishedIsSaidBefore(t *testing.T) {
	for _, test := range []struct{ name, text string }{
		{"a name with spaces", "x"}, {"", "x"}, {"a/b", "x"}, {"large", strings.Repeat("x", 1<<20+1)},
	} {
		if _, _, err := manifest.Pack("/soe", test.name, test.text, nil); err == nil || !strings.HasPrefix(err.Error(), "cannot publish the fragment") {
			t.Errorf("%q: %v", test.name, err)
		}
	}
}

func TestAFragmentThatIsNotWhatIsListedIsHalfPublishedAndTheMessageTellsHow(t *testing.T) {
	text := strings.Repeat("x = \"{{fact:hostname}}\"\n", 10)
	packed, parameters, err := manifest.Pack("/soe", "20-dev", text, nil)
	if err != nil {
		t.Fatal(err)
	}
	plain := entry(t, "10-base", "schema = 1\n[system]\n")
	value := parameters[0].Value
	whose := func(digest string) string {
		return map[string]string{
			manifest.Digest("the other"): "the text of 30-other", manifest.Digest("the old"): "the text of serial 41 still",
		}[digest]
	}
	for _, test := range []struct {
		name  string
		entry manifest.Entry
		value string // "-": none
		want  string
	}{
		{"missing", plain, "-", "there is no parameter " + plain.Parameter},
		{"swapped", plain, "the other", plain.Parameter + " holds the text of 30-other"},
		{"stale", plain, "the old", plain.Parameter + " holds the text of serial 41 still"},
		{"truncated", plain, "schema = 1\n", plain.Parameter + " is cut off: it has 11 bytes of 20"},
		{"truncated, packed", packed, value[:len(value)/8*4], packed.Parameter + " is cut off"},
		{"truncated to an odd length, packed", packed, value[:len(value)/8*4+1], packed.Parameter + " is cut off"},
		{"altered", plain, "schema = 1\n[sytsem]\n", plain.Parameter + " is not what the manifest lists"},
		{"no base64", packed, "<html>", packed.Parameter + " is not what the manifest lists"},
		{"as large as somebody likes", packed, bomb(t), packed.Parameter + " unpacks to more than 1048576 bytes; split it"},
	} {
		values := map[string]string{}
		if test.value != "-" {
			values[test.entry.Parameter] = test.value
		}
		_, err := test.entry.Assemble(values, whose)
		want := "cannot read the fragment " + test.entry.Name + ": the policy is half published: " + test.want
		if !errors.Is(err, manifest.ErrHalfPublished) || err.Error() != want {
			t.Errorf("%s:\n%v, not\n%s", test.name, err, want)
		}
	}
}

// bomb returns a value of a kilobyte that unpacks to more than a megabyte.
func bomb(t *testing.T) string {
	t.Helper()
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	if _, err := zip.Write(make([]byte, 1<<20+1)); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(packed.Bytes())
}

func TestARolloutReachesTheSameMachinesAtEveryLookAndMoreWhenItGrows(t *testing.T) {
	m := manifest.Manifest{Schema: 1, Generation: manifest.Generation{Serial: 42}, Rollout: &manifest.Rollout{
		Generation: manifest.Generation{Serial: 43}, Salt: "b1946ac9",
	}}
	reached := map[string]bool{}
	for _, percent := range []float64{0, 0.5, 10, 50, 100} {
		m.Rollout.Percent = percent
		n := 0
		for i := range 10_000 {
			identity := fmt.Sprintf("A-%07d", i)
			g, ok := m.For(identity, 42)
			if !ok {
				t.Fatal("there is no generation")
			}
			if again, _ := m.For(identity, 43); again.Serial != g.Serial {
				t.Fatalf("%s goes by %d, and then by %d", identity, g.Serial, again.Serial)
			}
			if g.Serial == 43 {
				reached[identity] = true
				n++
			} else if reached[identity] {
				t.Fatalf("%s was reached before, and is not at %v percent", identity, percent)
			}
		}
		if math.Abs(float64(n)/100-percent) > 1 {
			t.Errorf("%d of 10,000 were reached at %v percent", n, percent)
		}
	}
}

func TestAnotherSaltReachesOtherMachines(t *testing.T) {
	both := 0
	for i := range 10_000 {
		identity := fmt.Sprint(i)
		if manifest.Place("one", identity) < 10 && manifest.Place("other", identity) < 10 {
			both++
		}
	}
	if both < 50 || both > 150 { // a tenth of a tenth of 10000
		t.Errorf("%d machines are in both", both)
	}
}

func TestAPauseLeavesEverybodyWhereTheyAre(t *testing.T) {
	m := manifest.Manifest{
		Pause: true, Generation: manifest.Generation{Serial: 42},
		Rollout: &manifest.Rollout{Generation: manifest.Generation{Serial: 43}, Percent: 100, Salt: "x"},
	}
	for _, test := range []struct {
		current, want int64
		ok            bool
	}{
		{0, 42, true}, {42, 42, true}, {43, 43, true}, {41, 42, false},
	} {
		g, ok := m.For("A-1", test.current)
		if ok != test.ok || ok && g.Serial != test.want {
			t.Errorf("from %d to %d, %v", test.current, g.Serial, ok)
		}
	}
}

func TestWhatIsRolledOutAndPausedIsDescribed(t *testing.T) {
	m := manifest.Manifest{Generation: manifest.Generation{Serial: 42}}
	if got := m.Described("A-1"); got != "" {
		t.Error(got)
	}
	m.Pause = true
	if got, want := m.Described("A-1"), "paused: every machine stays at the serial that it has"; got != want {
		t.Error(got)
	}
	m.Rollout = &manifest.Rollout{Generation: manifest.Generation{Serial: 43}, Percent: 12.5, Salt: "x"}
	want := fmt.Sprintf("serial 43 is for 12.5 %% of the machines; this one's place is %.2f; paused: every machine stays at the serial that it has", manifest.Place("x", "A-1"))
	if got := m.Described("A-1"); got != want {
		t.Errorf("%s, not %s", got, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("schema = 1\nserial = 42\n[[fragment]]\nname = \"a\"\nparameter = \"/a\"\nsha256 = \"" + strings.Repeat("0", 64) + "\"\n[rollout]\nserial = 43\npercent = 5\nsalt = \"s\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := manifest.Parse("m", text)
		if err != nil {
			if len(policy.AsProblems(err)) == 0 {
				t.Fatalf("it is no problem of the policy: %v", err)
			}
			return
		}
		if g, ok := m.For("A-1", m.Newest()); !ok || g.Serial < 1 {
			t.Fatalf("%+v", g)
		}
	})
}

func FuzzAssemble(f *testing.F) {
	f.Add("H4sIAAAAAAAC", true)
	f.Fuzz(func(t *testing.T, value string, packed bool) {
		e := manifest.Entry{Name: "a", Parameter: "/a", SHA256: manifest.Digest("what nobody wrote")}
		if packed {
			e.Encoding = manifest.Compressed
		}
		if text, err := e.Assemble(map[string]string{"/a": value}, nil); !errors.Is(err, manifest.ErrHalfPublished) {
			t.Fatalf("%q, %v", text, err)
		}
	})
}
