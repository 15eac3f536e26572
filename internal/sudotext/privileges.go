package sudotext

import (
	"regexp"
	"strings"
)

var (
	someHosts     = regexp.MustCompile(`^!?[ \t]*\+?[A-Za-z0-9_.*?/-]+([ \t]*,[ \t]*!?[ \t]*\+?[A-Za-z0-9_.*?/-]+)*`)
	someAs        = regexp.MustCompile(`^\([A-Za-z0-9_,:!%+#. \t-]*\)`)
	someOption    = regexp.MustCompile(`^(ROLE|TYPE|PRIVS|LIMITPRIVS|TIMEOUT|NOTBEFORE|NOTAFTER|CWD|CHROOT|APPARMOR_PROFILE)[ \t]*=[ \t]*([A-Za-z0-9_./~*+-]+|"[^"\\]*")`)
	someTag       = regexp.MustCompile(`^(NO)?(EXEC|FOLLOW|INTERCEPT|LOG_INPUT|LOG_OUTPUT|MAIL|PASSWD|SETENV)[ \t]*:`)
	someDigests   = regexp.MustCompile(`^sha(224|256|384|512)[ \t]*:[ \t]*[A-Za-z0-9+/]+=*([ \t]*,[ \t]*sha(224|256|384|512)[ \t]*:[ \t]*[A-Za-z0-9+/]+=*)*`)
	someDenial    = regexp.MustCompile(`^![ \t]*`)
	someAlias     = regexp.MustCompile(`^[A-Z][A-Z0-9_]*`) // and ALL
	someDirectory = regexp.MustCompile(`^/([^\\,:= \t#"'!]*/)?([ \t]*[,:]|[ \t]*$)`)
	someCommand   = regexp.MustCompile(`^(sudoedit|/(\\[,:= #]|[^\\,:= \t#"'!])*[^/\\,:= \t#"'!])([ \t]+(\\[,:=#\\ *?\[\]!]|[^\\,:= \t#"'^])(\\[,:=#\\ *?\[\]!]|[^\\,:= \t#"'])*)*`)
)

// arePrivileges says whether a text is, to every sudo, a list of hosts and commands,
// or several with a colon between, and nothing else: an old one begins another grant, to somebody
// else, wherever a command has ended and no comma or colon follows. What is not surely one is none.
func arePrivileges(text string) bool {
	p := parser{text}
	for {
		p.blanks()
		if !p.pass(someHosts) || !p.passBlanks().take('=') {
			return false
		}
		for {
			p.blanks()
			if !p.command() {
				return false
			}
			if !p.passBlanks().take(',') {
				break
			}
		}
		if p.rest == "" {
			return true
		}
		if !p.take(':') {
			return false
		}
	}
}

// command passes over a command with all that stands before it.
func (p *parser) command() bool {
	p.pass(someAs)
	for p.passBlanks().pass(someOption) || p.pass(someTag) {
		continue
	}
	for p.pass(someDigests) || p.passBlanks().pass(someDenial) {
		continue
	}
	if someDirectory.MatchString(p.rest) {
		p.rest = p.rest[strings.IndexAny(p.rest+",", ",: \t"):]
		return true
	}
	return p.pass(someCommand) || p.pass(someAlias)
}

// pass passes over what matches.
func (p *parser) pass(what *regexp.Regexp) bool {
	found := what.FindString(p.rest)
	p.rest = p.rest[len(found):]
	return found != ""
}

func (p *parser) passBlanks() *parser {
	p.blanks()
	return p
}
