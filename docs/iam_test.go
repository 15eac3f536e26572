package docs_test

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/internal/publish"
)

var jsonBlock = regexp.MustCompile("(?s)```json\n(.*?)```")

// oneOrMore is how IAM writes lists: one value needs no brackets (IAM User Guide,
// Grammar of the IAM JSON policy language).
type oneOrMore []string

func (o *oneOrMore) UnmarshalJSON(text []byte) error {
	if strings.HasPrefix(string(text), "[") {
		return json.Unmarshal(text, (*[]string)(o))
	}
	*o = make(oneOrMore, 1)
	return json.Unmarshal(text, &(*o)[0])
}

type statement struct {
	Sid, Effect string
	Principal   map[string]oneOrMore
	Action      oneOrMore
	Resource    oneOrMore
	Condition   map[string]map[string]oneOrMore
}

// iamPolicies are those of a document, by the Sid of their first statement.
func iamPolicies(t *testing.T, file string) map[string][]statement {
	t.Helper()
	content := read(t, file)
	policies := map[string][]statement{}
	for _, block := range jsonBlock.FindAllStringSubmatch(content, -1) {
		var p struct {
			Version   string
			Statement []statement
		}
		decoder := json.NewDecoder(strings.NewReader(block[1]))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&p); err != nil || p.Version != "2012-10-17" || len(p.Statement) == 0 {
			t.Fatalf("%v:\n%s", err, block[1])
		}
		policies[p.Statement[0].Sid] = p.Statement
	}
	return policies
}

func TestThePermissionsAreOnesThatIAMCanRead(t *testing.T) {
	sid := regexp.MustCompile(`^[A-Za-z0-9]+$`)
	action := regexp.MustCompile(`^(ssm|secretsmanager|kms|sts):[A-Z][A-Za-z]+$`)
	resource := regexp.MustCompile(`^(\*|arn:aws:(ssm|secretsmanager|kms):eu-west-1:111122223333:(parameter/soe/prod/|secret:soe/prod/|key/|managed-instance/).+)$`)
	policies := iamPolicies(t, "iam.md")
	if len(policies) != 4 {
		t.Fatalf("there are %d policies", len(policies))
	}
	for first, statements := range policies {
		for _, s := range statements {
			if !sid.MatchString(s.Sid) || s.Effect != "Allow" && s.Effect != "Deny" || len(s.Action) == 0 || (s.Principal == nil) == (s.Resource == nil) {
				t.Errorf("%s: %+v", first, s)
			}
			for _, a := range s.Action {
				if !action.MatchString(a) {
					t.Errorf("%s: %s is no action", first, a)
				}
			}
			for _, r := range s.Resource {
				if !resource.MatchString(r) {
					t.Errorf("%s: %s is no resource of the example", first, r)
				}
			}
		}
	}
}

func TestWhoPublishesIsAllowedWhatPublishCallsAndNothingElse(t *testing.T) {
	var calls, allowed []string
	for store, i := reflect.TypeFor[publish.Store](), 0; i < store.NumMethod(); i++ {
		calls = append(calls, "ssm:"+store.Method(i).Name)
	}
	for _, s := range iamPolicies(t, "iam.md")["Publish"] {
		if s.Effect == "Allow" {
			allowed = append(allowed, s.Action...)
		}
	}
	slices.Sort(calls)
	slices.Sort(allowed)
	if diff := cmp.Diff(calls, allowed); diff != "" {
		t.Error(diff)
	}
}

// An input of a call to AWS is named after the call.
var input = regexp.MustCompile(`\b(ssm|secretsmanager)\.([A-Z]\w+)Input\b`)

func TestTheAgentsAreAllowedWhatTheyCallAndNothingElse(t *testing.T) {
	allowed := []string{}
	for _, s := range iamPolicies(t, "iam.md")["PolicyAndItsValues"] {
		allowed = append(allowed, s.Action...)
	}
	calls := []string{"kms:Decrypt"} // by the services, on behalf of who asks for a secret
	for _, pattern := range []string{"../internal/source/*.go", "../internal/report/*.go", "../internal/agent/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			for _, match := range input.FindAllStringSubmatch(read(t, file), -1) {
				if call := match[1] + ":" + match[2]; !strings.HasSuffix(file, "_test.go") && !slices.Contains(calls, call) {
					calls = append(calls, call)
				}
			}
		}
	}
	same(t, "calls", calls, allowed)
}
