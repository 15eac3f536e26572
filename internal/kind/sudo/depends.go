package sudo

import (
	"context"
	"path"
	"regexp"
	"slices"
	"strings"
)

// A polkit rule is a program. The agent can only ask polkit concrete questions, now, about a process
// of root's. The answers are complete only for rules that decide by the action, the person, their
// groups and their session, and that compare other details (program, unit …) with literals. What any
// other rule answers at another time cannot be known. So this file has a list of the words that keep a
// rule within that limit; every other word makes a rule suspicious.

// jsToken matches one JavaScript token. A "/" begins a regular expression if no operand is in front of
// it.
var jsToken = regexp.MustCompile(`^(?:\s+|//[^\n]*|(?s:/\*.*?\*/)|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[0-9][0-9A-Za-z.]*|[\pL_$][\pL\pN_$]*|===|!==|==|!=|<=|>=|&&|\|\||\+\+|--|=>|[-+*/%&|^<>]=|.)`)

var jsRegexp = regexp.MustCompile(`^/(?:[^/\\\n\[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/[a-z]*`)

var jsWord = regexp.MustCompile(`^[\pL_$][\pL\pN_$]*$`)

// jsTokens returns the tokens of a rule without blanks and comments.
func jsTokens(text string) (tokens []string) {
	for text != "" {
		token := jsToken.FindString(text)
		if token == "" {
			token = text[:1] // a line break in a text: no program
		}
		if token[0] == '/' && len(token) <= 2 && !strings.HasPrefix(token, "//") && !operand(last(tokens)) {
			if found := jsRegexp.FindString(text); found != "" {
				token = found
			}
		}
		text = text[len(token):]
		if strings.TrimSpace(token) != "" && !strings.HasPrefix(token, "//") && !strings.HasPrefix(token, "/*") {
			tokens = append(tokens, token)
		}
	}
	return tokens
}

func last(tokens []string) string {
	if len(tokens) == 0 {
		return ""
	}
	return tokens[len(tokens)-1]
}

func operand(token string) bool {
	return token == ")" || token == "]" || token != "" && token != "return" && strings.ContainsAny(token[:1], `"'0123456789`) ||
		jsWord.MatchString(token) && token != "return"
}

// pureWords are the words that a rule may use besides its own names and literals.
var pureWords = strings.Fields(`polkit addRule addAdminRule log function if else return switch case default break true false null undefined var let const
	Result YES NO AUTH_SELF AUTH_SELF_KEEP AUTH_ADMIN AUTH_ADMIN_KEEP NOT_HANDLED
	id lookup user groups isInGroup isInNetGroup local active session seat indexOf`)

// reachingWords are words by which a rule can reach values that it does not name.
var reachingWords = strings.Fields(`eval Function constructor this globalThis _ruleFuncs apply call with import`)

// pureMethods are methods of strings without side effects. They are accepted only in rules that look
// up no details: on a looked-up value they could give many different answers.
var pureMethods = strings.Fields(`startsWith endsWith includes match search test slice substr substring split length toLowerCase toUpperCase lastIndexOf charAt trim`)

// askedDetails are the details that the agent sends to polkit with its questions.
var askedDetails = strings.Fields(`program command_line user unit verb`)

// pklaCompat is the rule of polkit-pkla-compat. Its helper decides by the question and by entries that
// the agent reads itself. Its text differs between distributions.
const pklaCompat = "49-polkit-pkla-compat.rules"

// pklaText is the text on Debian.
const pklaText = `polkit.addAdminRule(function(action, subject) {
	var res = polkit.spawn(['/usr/sbin/pkla-admin-identities']);
	if (res == '')
		return null;
	var identities = res.split('\n');
	if (identities[identities.length - 1] == '')
		identities.pop()
	return identities;
});
polkit.addRule(function(action, subject) {
	var params = ['/usr/sbin/pkla-check-authorization',
		      subject.user, subject.local ? 'true' : 'false',
		      subject.active ? 'true' : 'false', action.id];
	var res = polkit.spawn(params);
	if (res == '')
		return null;
	return res.replace(/\n$/, '');
});`

// goesBy is dependsOn, with an exception for the rule of polkit-pkla-compat.
func (k *Kind) goesBy(ctx context.Context, f ruleFile) string {
	word := dependsOn(f.content)
	if word == "" || path.Base(f.path) != pklaCompat {
		return word
	}
	if slices.Equal(jsTokens(string(f.content)), jsTokens(pklaText)) {
		return ""
	}
	if same, err := k.packaged(ctx, []string{f.path}); err == nil && same[f.path] {
		return ""
	}
	return word
}

// A jsText is the text of a rule as tokens.
type jsText struct {
	tokens  []string
	own     map[string]bool // names that it declares
	given   map[string]bool // what its functions are given: the action and the subject
	looksUp bool
}

func readText(content []byte) *jsText {
	t := &jsText{tokens: jsTokens(string(content)), own: map[string]bool{}, given: map[string]bool{}}
	for i, token := range t.tokens {
		before := t.at(i - 1)
		switch {
		case token == "lookup":
			t.looksUp = true
		case jsWord.MatchString(token) && (before == "var" || before == "let" || before == "const" || before == "function"):
			t.own[token] = true
		case token == "(" && (before == "function" || t.at(i-2) == "function"):
			for j := i + 1; j < len(t.tokens) && t.tokens[j] != ")"; j++ {
				t.given[t.tokens[j]] = t.tokens[j] != ","
			}
		}
	}
	return t
}

func (t *jsText) at(i int) string {
	if i < 0 || i >= len(t.tokens) {
		return ""
	}
	return t.tokens[i]
}

// dependsOn returns one word or sign of a rule that makes it depend on more than polkit can be asked
// about, or "".
//
// A rule that only names administrators may depend on anything: the agent's own administrators are
// asked first. It is still refused if it could add rules by a computed name.
func dependsOn(content []byte) string {
	t := readText(content)
	// Where it only names administrators it may go by what it likes: those who are asked first
	// are the agent's. It could add rules by a word that it computes, all the same.
	namesOnly := !slices.Contains(t.tokens, "addRule")
	for i, token := range t.tokens {
		reaches := token == "[" || slices.Contains(reachingWords, token) || t.at(i-1) == "=" && token == "polkit"
		if !t.pure(i) && (reaches || !namesOnly) || token == "polkit" && t.at(i+1) != "." && t.at(i-1) != "." {
			return token
		}
	}
	return ""
}

// pure reports whether a token keeps the rule within what can be asked.
func (t *jsText) pure(i int) bool {
	token, before, after := t.tokens[i], t.at(i-1), t.at(i+1)
	switch {
	case token[0] == '"' || token[0] == '\'' || token[0] >= '0' && token[0] <= '9':
		return true
	case token == "lookup":
		return t.comparesLookup(i)
	case token == "indexOf" && t.looksUp: // in a list of texts, or of what is no detail
		return t.at(i-2) == "]" || t.at(i-2) == "id" || t.at(i-2) == "user"
	case jsWord.MatchString(token) && before != "." && t.given[token]:
		return after == "." || t.isParameter(i)
	case jsWord.MatchString(token):
		return slices.Contains(pureWords, token) || before != "." && t.own[token] || !t.looksUp && slices.Contains(pureMethods, token)
	case len(token) > 1 && token[0] == '/': // a regular expression, of no detail, without memory
		return !t.looksUp && token[len(token)-1] == '/'
	case token == "[": // a list, and no property of a computed name
		return before == "return" || before == "case" || !operand(before) && before != "}"
	case token == "=":
		declared := t.at(i - 2)
		return declared == "var" || declared == "let" || declared == "const"
	case token == "<" || token == ">" || token == "<=" || token == ">=":
		return !t.looksUp || after == "-" || after != "" && after[0] >= '0' && after[0] <= '9'
	case token == "+":
		return !t.looksUp
	case token == "-":
		return after != "" && after[0] >= '0' && after[0] <= '9'
	}
	return strings.Contains(" ( ) { } ] , ; . : ? ! == != === !== && || ", " "+token+" ")
}

// comparesLookup reports whether a detail is looked up by a name that the agent sends to polkit.
func (t *jsText) comparesLookup(i int) bool {
	key := strings.Trim(t.at(i+2), `"'`)
	return t.at(i-1) == "." && t.at(i+1) == "(" && t.at(i+3) == ")" && slices.Contains(askedDetails, key)
}

// isParameter reports whether a name is in a function's parameter list.
func (t *jsText) isParameter(i int) bool {
	for ; i > 0; i-- {
		switch {
		case t.tokens[i] == "(":
			return t.at(i-1) == "function" || t.at(i-2) == "function"
		case t.tokens[i] != "," && !jsWord.MatchString(t.tokens[i]):
			return false
		}
	}
	return false
}

// couldGrant returns those of the actions that a rule with unknown dependencies may be about. An
// action is excluded only if every return of the rule is behind a condition that names other actions.
func couldGrant(content []byte, actions []string) (some []string) {
	t := readText(content)
	condition, answers := -1, 0
	for i, token := range t.tokens {
		switch token {
		case "if":
			condition = i
		case "eval", "Function", "=>", "`", "_ruleFuncs":
			return actions
		case "return":
			if answers++; condition < 0 || !t.namesAction(condition, i) {
				return actions
			}
		}
	}
	if answers == 0 {
		return actions
	}
	return slices.DeleteFunc(slices.Clone(actions), func(action string) bool { return !mayBeAbout(content, action) })
}

// namesAction reports whether the condition between an if and a return lets only literally named
// actions reach the return.
func (t *jsText) namesAction(from, to int) bool {
	names, inside := false, false
	for i := from; i < to; i++ {
		switch t.tokens[i] {
		case "||", "else", "?", "!", "!=", "!==", "}", "case":
			return false
		case "{":
			inside = true
		case ";":
			if !inside {
				return false
			}
		case "id":
			text := t.at(i + 2)
			names = names || (t.at(i+1) == "==" || t.at(i+1) == "===") && text != "" && (text[0] == '"' || text[0] == '\'') && t.at(i+3) != "+"
		}
	}
	return names
}

// literals are the string literals of a rule.
func literals(content []byte) (all []string) {
	for _, token := range jsTokens(string(content)) {
		if token[0] == '"' || token[0] == '\'' {
			all = appendNew(all, strings.ReplaceAll(token[1:len(token)-1], `\/`, "/"))
		}
	}
	return all
}
