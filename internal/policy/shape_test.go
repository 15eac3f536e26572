package policy

import (
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/soe-agent/soe-agent/internal/document"
)

// fill repeats a numbered piece until there are n bytes.
func fill(n int, f func(i int) string) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		b.WriteString(f(i))
	}
	return b.String()
}

// shapes returns documents of about n bytes, each with an unrealistic number of one thing.
func shapes() map[string]func(n int) string {
	rep := strings.Repeat
	return map[string]func(n int) string{
		"many keys": func(n int) string {
			return "schema=1\n" + fill(n, func(i int) string { return fmt.Sprintf("k%d=1\n", i) })
		},
		"packages": func(n int) string {
			return "schema=1\n[packages]\n" + fill(n, func(i int) string { return fmt.Sprintf("k%d=\"present\"\n", i) })
		},
		"package tables": func(n int) string {
			return "schema=1\n" + fill(n, func(i int) string { return fmt.Sprintf("[packages.k%d]\nensure=\"present\"\n", i) })
		},
		"unknown in tables": func(n int) string {
			return "schema=1\n" + fill(n, func(i int) string { return fmt.Sprintf("[packages.k%d]\nensur=\"x\"\n", i) })
		},
		"headers": func(n int) string {
			return "schema=1\n" + fill(n, func(i int) string { return fmt.Sprintf("[a%d]\n", i) })
		},
		"deep headers": func(n int) string {
			return "schema=1\n" + fill(n, func(i int) string { return fmt.Sprintf("[%sa%d]\n", rep("a.", 31), i) })
		},
		"deep header keys": func(n int) string {
			return "schema=1\n[" + rep("a.", 31) + "a]\n" + fill(n, func(i int) string { return fmt.Sprintf("%sa%d=1\n", rep("b.", 31), i) })
		},
		"deep header shallow": func(n int) string {
			return "schema=1\n[" + rep("a.", 31) + "a]\n" + fill(n, func(i int) string { return fmt.Sprintf("b%d=1\n", i) })
		},
		"dotted": func(n int) string {
			return "schema=1\n" + fill(n, func(i int) string { return fmt.Sprintf("a.b%d=1\n", i) })
		},
		"dotted deep": func(n int) string {
			return "schema=1\n" + fill(n, func(i int) string { return fmt.Sprintf("%sb%d=1\n", rep("a.", 31), i) })
		},
		"dotted distinct": func(n int) string {
			return "schema=1\n" + fill(n, func(i int) string { return fmt.Sprintf("a%d%s=1\n", i, rep(".a", 31)) })
		},
		"rules": func(n int) string {
			return "schema=1\n" + fill(n, func(int) string { return "[[rules]]\nmatch=[\"*\"]\n" })
		},
		"arrays of tables": func(n int) string { return "schema=1\n" + fill(n, func(int) string { return "[[a]]\n" }) },
		"nested aot":       func(n int) string { return "schema=1\n[[a]]\n" + fill(n, func(int) string { return "[[a.b]]\n" }) },
		"alternating aot":  func(n int) string { return "schema=1\n" + fill(n, func(int) string { return "[[a]]\n[[a.b]]\n" }) },
		"aot tables":       func(n int) string { return "schema=1\n" + fill(n, func(int) string { return "[[a]]\n[a.b]\n" }) },
		"inline array":     func(n int) string { return "schema=1\na=[" + rep("{b=1},", n/6) + "]\n" },
		"flat array":       func(n int) string { return "schema=1\na=[" + rep("1,", n/2) + "]\n" },
		"flat array lines": func(n int) string { return "schema=1\na=[" + rep("1,\n", n/3) + "]\n" },
		"array comments":   func(n int) string { return "schema=1\na=[" + rep("#\n", n/2) + "]\n" },
		"empty arrays":     func(n int) string { return "schema=1\na=[" + rep("[],", n/3) + "]\n" },
		"32 arrays":        func(n int) string { return "schema=1\na=[" + rep(rep("[", 31)+rep("]", 31)+",", n/63) + "]\n" },
		"32 tables":        func(n int) string { return "schema=1\na=[" + rep(rep("{a=", 31)+"1"+rep("}", 31)+",", n/125) + "]\n" },
		"inline wide": func(n int) string {
			return "schema=1\na={" + strings.TrimSuffix(fill(n, func(i int) string { return fmt.Sprintf("k%d=1,", i) }), ",") + "}\n"
		},
		"inline wide deep": func(n int) string {
			return "schema=1\na=" + rep("{a=", 30) + "{" + strings.TrimSuffix(fill(n, func(i int) string { return fmt.Sprintf("k%d=1,", i) }), ",") + "}" + rep("}", 30) + "\n"
		},
		"inline dotted": func(n int) string {
			return "schema=1\na={" + strings.TrimSuffix(fill(n, func(i int) string { return fmt.Sprintf("%sk%d=1,", rep("a.", 31), i) }), ",") + "}\n"
		},
		"long string":     func(n int) string { return "schema=1\na=\"" + rep("x", n) + "\"\n" },
		"escapes":         func(n int) string { return "schema=1\na=\"" + rep("\\n", n/2) + "\"\n" },
		"unicode escapes": func(n int) string { return "schema=1\na=\"" + rep("\\u0041", n/6) + "\"\n" },
		"nested inline tables": func(n int) string {
			return "schema=1\n" + fill(n, func(i int) string { return fmt.Sprintf("a%d%s1%s\n", i, rep("={a", 30)+"=", rep("}", 30)) })
		},
		"multi":            func(n int) string { return "schema=1\na=\"\"\"" + rep("x\n", n/2) + "\"\"\"\n" },
		"multi escapes":    func(n int) string { return "schema=1\na=\"\"\"" + rep("\\t\n", n/3) + "\"\"\"\n" },
		"line ends":        func(n int) string { return "schema=1\na=\"\"\"" + rep("\\\n", n/2) + "\"\"\"\n" },
		"line ends blanks": func(n int) string { return "schema=1\na=\"\"\"" + rep("\\\n ", n/3) + "\"\"\"\n" },
		"one line end":     func(n int) string { return "schema=1\na=\"\"\"\\" + rep("\n", n) + "\"\"\"\n" },
		"quotes in multi":  func(n int) string { return "schema=1\na=\"\"\"" + rep("\"\"x", n/3) + "\"\"\"\n" },
		"literal":          func(n int) string { return "schema=1\na='''" + rep("x\n", n/2) + "'''\n" },
		"literal crlf":     func(n int) string { return "schema=1\na='''" + rep("\r\n", n/2) + "'''\n" },
		"comments":         func(n int) string { return "schema=1\n" + rep("#\n", n/2) },
		"long comment":     func(n int) string { return "schema=1\n#" + rep("x", n) + "\n" },
		"blank lines":      func(n int) string { return "schema=1\n" + rep("\n", n) },
		"crlf":             func(n int) string { return "schema=1\r\n" + rep("\r\n", n/2) },
		"number":           func(n int) string { return "schema=1\na=" + rep("1", n) + "\n" },
		"underscores":      func(n int) string { return "schema=1\na=1" + rep("_1", n/2) + "\n" },
		"float":            func(n int) string { return "schema=1\na=1." + rep("1", n) + "\n" },
		"exponent":         func(n int) string { return "schema=1\na=1e" + rep("1", n) + "\n" },
		"hex":              func(n int) string { return "schema=1\na=0x" + rep("1", n) + "\n" },
		"date":             func(n int) string { return "schema=1\na=2000-01-01T00:00:00." + rep("1", n) + "Z\n" },
		"long bare key":    func(n int) string { return "schema=1\n" + rep("k", n) + "=1\n" },
		"long quoted key":  func(n int) string { return "schema=1\n\"" + rep("k", n) + "\"=1\n" },
		"long header":      func(n int) string { return "schema=1\n[\"" + rep("k", n) + "\"]\n" },
		"escaped key":      func(n int) string { return "schema=1\n\"" + rep("\\t", n/2) + "\"=1\n" },
		"blanks":           func(n int) string { return "schema=1\na=" + rep(" ", n) + "1\n" },
		"open string":      func(n int) string { return "schema=1\na=\"" + rep("x", n) },
		"open multi":       func(n int) string { return "schema=1\na=\"\"\"" + rep("x\n", n/2) },
		"open array":       func(n int) string { return "schema=1\na=[" + rep("1,", n/2) },
		"long reference": func(n int) string {
			return "schema=1\n[dropins.\"/etc/x.d/y\"]\nactivate=[]\ncontent='" + rep("{{resolve:", n/10) + "'\n"
		},
		"references": func(n int) string {
			return "schema=1\n[dropins.\"/etc/x.d/y\"]\nactivate=[]\ncontent='''" + fill(n, func(i int) string { return fmt.Sprintf("{{resolve:ssm:/p%d}}\n", i) }) + "'''\n"
		},
		"same reference": func(n int) string {
			return "schema=1\n[dropins.\"/etc/x.d/y\"]\nactivate=[]\ncontent='''" + rep("{{fact:hostname}}\n", n/18) + "'''\n"
		},
		"references in args": func(n int) string {
			return "schema=1\n[checks.x]\nrun=[\"/a\"," + fill(n, func(i int) string { return fmt.Sprintf("\"{{resolve:ssm:/p%d}}\",", i) }) + "]\n"
		},
		"dropins": func(n int) string {
			return "schema=1\n" + fill(n, func(i int) string { return fmt.Sprintf("[dropins.\"/etc/x.d/y%d\"]\nactivate=[]\ncontent=''\n", i) })
		},
		"files": func(n int) string {
			return "schema=1\n" + fill(n, func(i int) string {
				return fmt.Sprintf("[dropins.\"/etc/x.d/y%d\"]\nactivate=[]\ncontent='{{resolve:ssm:/p%d}}'\n", i, i)
			})
		},
		"users": func(n int) string {
			return "schema=1\n" + fill(n, func(i int) string { return fmt.Sprintf("[users.u%d]\n", i) })
		},
		"groups of a user": func(n int) string {
			return "schema=1\n[users.u]\ngroups=[" + fill(n, func(i int) string { return fmt.Sprintf("\"g%d\",", i) }) + "]\n"
		},
		"sudo": func(n int) string {
			return "schema=1\n[sudo]\nallow=[" + fill(n, func(i int) string { return fmt.Sprintf("\"u%d\",", i) }) + "]\n"
		},
		"sudo groups": func(n int) string {
			return "schema=1\n[sudo]\nallow=[" + fill(n/2, func(i int) string { return fmt.Sprintf("\"u%d\",", i) }) + "]\nroot_groups=[" + fill(n/2, func(i int) string { return fmt.Sprintf("\"u%d\",", i) }) + "]\n"
		},
		"sudo users": func(n int) string {
			return "schema=1\n[sudo]\nallow=[" + fill(n/2, func(i int) string { return fmt.Sprintf("\"u%d\",", i) }) + "]\n" + fill(n/2, func(i int) string { return fmt.Sprintf("[users.v%d]\n", i) })
		},
		"personas": func(n int) string {
			return "schema=1\npersonas=[" + fill(n, func(i int) string { return fmt.Sprintf("\"p%d\",", i) }) + "]\n"
		},
		"pcoip unknown": func(n int) string {
			return "schema=1\n[pcoip]\n" + fill(n, func(i int) string { return fmt.Sprintf("k%d=1\n", i) })
		},
		"pcoip long": func(n int) string { return "schema=1\n[pcoip]\n" + rep("k", n) + "=1\n" },
		"dconf": func(n int) string {
			return "schema=1\n[dconf.\"a/b\"]\n" + fill(n, func(i int) string { return fmt.Sprintf("k%d=1\n", i) })
		},
		"dconf array": func(n int) string { return "schema=1\n[dconf.\"a/b\"]\nk=[" + rep("1,", n/2) + "]\n" },
		"rule globs":  func(n int) string { return "schema=1\n[[rules]]\nmatch=[" + rep("\"package/*\",", n/12) + "]\n" },
		"glob stars":  func(n int) string { return "schema=1\n[[rules]]\nmatch=[\"package/" + rep("*a", n/2) + "\"]\n" },
		"bad globs":   func(n int) string { return "schema=1\n[[rules]]\nmatch=[" + rep("\"x\",", n/4) + "]\n" },
		"rules + packages": func(n int) string {
			return "schema=1\n" + fill(n/2, func(i int) string { return fmt.Sprintf("[[rules]]\nmatch=[\"package/k%d\"]\n", i) }) + "[packages]\n" + fill(n/2, func(i int) string { return fmt.Sprintf("k%d=\"present\"\n", i) })
		},
		"controls": func(n int) string {
			return "schema=1\n[[rules]]\nmatch=[\"package/*\"]\ncontrols=[" + fill(n, func(i int) string { return fmt.Sprintf("\"c%d\",", i) }) + "]\n"
		},
		"controls of resources": func(n int) string {
			return "schema=1\n" + fill(n, func(i int) string {
				return fmt.Sprintf("[users.u%d]\ncontrols=[\"c%d\",\"d\"]\nseverity='low'\n", i, i%900)
			})
		},
		"controls of a resource": func(n int) string {
			return "schema=1\n[users.u]\ncontrols=[" + fill(n, func(i int) string { return fmt.Sprintf("\"c%d\",", i) }) + "]\n"
		},
		"benchmark": func(n int) string {
			return "schema=1\n[benchmarks.b]\ncontrols=[" + fill(n, func(i int) string { return fmt.Sprintf("\"%d\",", i) }) + "]\n"
		},
		"benchmarks": func(n int) string {
			return "schema=1\n" + fill(n, func(i int) string { return fmt.Sprintf("[benchmarks.b%d]\ncontrols=['1']\n", i) })
		},
		"controls that are none": func(n int) string {
			return "schema=1\n[benchmarks.b]\ncontrols=['1']\n" + fill(n, func(i int) string { return fmt.Sprintf("[users.u%d]\ncontrols=['b:%d']\n", i, i%900+2) })
		},
		"regex": func(n int) string { return "schema=1\n[checks.x]\nrun=[\"/a\"]\nstdout='" + rep("(a|b)", n/5) + "'\n" },
		"regex nest": func(n int) string {
			return "schema=1\n[checks.x]\nrun=[\"/a\"]\nstdout='" + rep("(", n/2) + rep(")", n/2) + "'\n"
		},
		"regex classes": func(n int) string { return "schema=1\n[checks.x]\nrun=[\"/a\"]\nstdout='" + rep("\\pL", n/3) + "'\n" },
		"regex repeats": func(n int) string {
			return "schema=1\n[checks.x]\nrun=[\"/a\"]\nstdout='" + rep("a{1000}", n/7) + "'\n"
		},
		"checks": func(n int) string {
			return "schema=1\n" + fill(n, func(i int) string { return fmt.Sprintf("[checks.c%d]\nrun=[\"/a\"]\n", i) })
		},
		"check regexes": func(n int) string {
			return "schema=1\n" + fill(n, func(i int) string { return fmt.Sprintf("[checks.c%d]\nrun=[\"/a\"]\nstdout='\\pL{900}'\n", i) })
		},
		"groups long": func(n int) string { return "schema=1\n[groups." + rep("k", n) + "]\n" },
		"bad keys": func(n int) string {
			return "schema=1\n[users.x]\n" + fill(n, func(i int) string { return fmt.Sprintf("hom%d=1\n", i) })
		},
		"bad long key": func(n int) string { return "schema=1\n[users.x]\n" + rep("h", n) + "=1\n" },
		"bad top keys long": func(n int) string {
			return "schema=1\n" + fill(n, func(i int) string { return fmt.Sprintf("%s%d=1\n", rep("h", 1000), i) })
		},
		"activate": func(n int) string {
			return "schema=1\n[dropins.\"/etc/x.d/y\"]\nactivate=[\"/bin/systemctl\"," + fill(n, func(i int) string { return fmt.Sprintf("\"u%d\",", i) }) + "]\ncontent=''\n"
		},
		"directories": func(n int) string {
			return "schema=1\n" + fill(n, func(i int) string { return fmt.Sprintf("[directories.\"/etc/x%d.d\"]\npurge=true\n", i) })
		},
		"ids": func(n int) string {
			return "schema=1\n[ids]\n" + fill(n, func(i int) string { return fmt.Sprintf("uid.k%d=%d\n", i, i+1) })
		},
		"ids same": func(n int) string {
			return "schema=1\n[ids]\n" + fill(n, func(i int) string { return fmt.Sprintf("uid.k%d=7\n", i) })
		},
		"services": func(n int) string {
			return "schema=1\n" + fill(n, func(i int) string { return fmt.Sprintf("[services.\"k%d.service\"]\nrunning=true\n", i) })
		},
		"bad values": func(n int) string {
			return "schema=1\n[packages]\n" + fill(n, func(i int) string { return fmt.Sprintf("k%d=1\n", i) })
		},
		"long bad value": func(n int) string { return "schema=1\n[packages]\nk=\"" + rep("x", n) + "\"\n" },
		"path":           func(n int) string { return "schema=1\n[dropins.\"/etc/" + rep("x/", n/2) + "y.d/z\"]\ncontent=''\n" },
		"long dconf":     func(n int) string { return "schema=1\n[dconf.\"" + rep("x/", n/2) + "y\"]\nz=1\n" },
	}
}

// onCPU returns the processor time of do. It measures only this thread, so that it does not depend
// on what else the machine does.
func onCPU(do func()) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	spent := func() time.Duration {
		var u syscall.Rusage
		_ = syscall.Getrusage(syscall.RUSAGE_THREAD, &u)
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	start := spent()
	do()
	return spent() - start
}

// readThrough does everything with a fragment that an agent does before a kind sees it.
func readThrough(text string) {
	f, _ := Parse(Source{Name: "x", Text: text})
	fragments := []Fragment{f}
	p, _ := Merge(fragments, []string{"base"}, nil)
	p.References()
	p = p.Expand(func(Reference) (string, bool) { return "x", true })
	now := time.Now()
	for _, r := range p.Resources {
		p.Ruling(r.ID, now)
	}
	p.Digest()
	p.Idle(nil)
	p.NextWaiverEnd("package", now)
	Advise(fragments, now)
}

// slow returns a message if something takes more time than in proportion to its length, or "". With
// quadratic time, four times as much takes 16 times as long.
func slow(of func(n int) string, n int) string {
	text := of(n)
	whole := onCPU(func() { readThrough(text) })
	if whole < 60*time.Millisecond {
		return ""
	}
	text = of(n / 4)
	quarter := onCPU(func() { readThrough(text) })
	if whole > 10*quarter+30*time.Millisecond {
		return fmt.Sprintf("%d bytes take %s, and a quarter of them %s", n, whole, quarter)
	}
	if testing.Short() { // so little time says little about how long the largest takes
		return ""
	}
	if second := allowance * time.Second * time.Duration(n) / document.Largest; whole > second {
		return fmt.Sprintf("%d bytes take %s, and not %s", n, whole, second)
	}
	return ""
}

// someOf returns the size that is tried instead of the largest.
func someOf(largest int) int {
	if testing.Short() {
		return largest / 8
	}
	return largest / 4
}

func TestAMegabyteOfWhateverShapeTakesLessThanASecond(t *testing.T) {
	for name, of := range shapes() {
		t.Run(name, func(t *testing.T) {
			if why := slow(of, someOf(document.Largest)); why != "" {
				t.Error(why)
			}
		})
	}
}

func TestADocumentOfFullSizeIsReadInASecond(t *testing.T) {
	names := []string{"packages", "check regexes", "pcoip unknown", "ids same", "nested inline tables"}
	if testing.Short() {
		names = names[:1]
	}
	for _, name := range names {
		text := shapes()[name](document.Largest - 2000)
		if took := onCPU(func() { readThrough(text) }); took > allowance*time.Second {
			t.Errorf("%s: %d bytes take %s", name, len(text), took)
		}
	}
}

// FuzzTwiceAsLong compares the time for a piece of a fragment, many times, with that for twice as
// many. A # in it is replaced by a number that differs each time.
func FuzzTwiceAsLong(f *testing.F) {
	for _, piece := range []string{
		"[packages.p#]\nensure = 'present'\n", "[[rules]]\nmatch = ['*']\n", "[dropins.\"/etc/x.d/#\"]\ncontent = '{{resolve:ssm:/p#}}'\nactivate = []\n",
		"k# = { a.b = [{ c = 1 }] }\n", "a#.b.c.d.e = 1\n", "[users.u#]\nhom = ''\n",
	} {
		f.Add(piece)
	}
	f.Fuzz(func(t *testing.T, piece string) {
		if len(piece) > 1000 || piece == "" {
			return
		}
		of := func(n int) string {
			return "schema = 1\n" + fill(n, func(i int) string { return strings.ReplaceAll(piece, "#", fmt.Sprint(i)) })
		}
		for try := 0; ; try++ { // other work of the machine may disturb a try
			why := slow(of, someOf(document.Largest))
			if why == "" {
				return
			}
			if try == 2 {
				t.Fatalf("%q: %s", piece, why)
			}
		}
	})
}
