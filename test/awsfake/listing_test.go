package awsfake_test

import (
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/test/awsfake"
)

// list returns the names of all parameters below a path.
func list(t *testing.T, client *ssm.Client, path string) []string {
	t.Helper()
	names := []string{}
	pages := ssm.NewGetParametersByPathPaginator(client, &ssm.GetParametersByPathInput{Path: &path, Recursive: aws.Bool(true)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range page.Parameters {
			names = append(names, *p.Name)
		}
	}
	return names
}

func TestAPublisherListsWhatIsBelowAPath(t *testing.T) {
	s := awsfake.New(t)
	for _, name := range []string{"/soe/prod/manifest", "/soe/prod/policy/a/1", "/soe/prod/policy/b/1", "/soe/prod2/x", "/soe/prod", "plain"} {
		s.PutParameter(name, "1")
	}
	tests := []struct {
		name, path string
		recursive  bool
		want       []string
	}{
		{"its children", "/soe/prod", false, []string{"/soe/prod/manifest"}},
		{"all levels", "/soe/prod", true, []string{"/soe/prod/manifest", "/soe/prod/policy/a/1", "/soe/prod/policy/b/1"}},
		{"a slash at the end", "/soe/prod/", true, []string{"/soe/prod/manifest", "/soe/prod/policy/a/1", "/soe/prod/policy/b/1"}},
		{"the root", "/", true, []string{"/soe/prod", "/soe/prod/manifest", "/soe/prod/policy/a/1", "/soe/prod/policy/b/1", "/soe/prod2/x"}},
		{"nothing", "/none", true, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			out, err := ssmClient(s, publishing).GetParametersByPath(t.Context(), &ssm.GetParametersByPathInput{Path: &test.path, Recursive: &test.recursive})
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, p := range out.Parameters {
				names = append(names, *p.Name)
				if *p.Value != "1" || p.Version != 1 || *p.ARN == "" || p.LastModifiedDate == nil {
					t.Errorf("got %+v", p)
				}
			}
			if diff := cmp.Diff(test.want, names); diff != "" || out.NextToken != nil {
				t.Error(diff, aws.ToString(out.NextToken))
			}
		})
	}
}

func TestAListComesInPagesOfAtMostTen(t *testing.T) {
	s := awsfake.New(t)
	var want []string
	for i := range 25 {
		want = append(want, fmt.Sprintf("/soe/%02d", i))
		s.PutParameter(want[i], "1")
	}
	client := ssmClient(s, publishing)
	if diff := cmp.Diff(want, list(t, client, "/soe")); diff != "" {
		t.Error(diff)
	}
	if n := s.Calls("GetParametersByPath").Answered; n != 3 {
		t.Errorf("%d pages, want 3", n)
	}
	out, err := client.GetParametersByPath(t.Context(), &ssm.GetParametersByPathInput{Path: aws.String("/soe"), MaxResults: aws.Int32(7)})
	if err != nil || len(out.Parameters) != 7 || out.NextToken == nil {
		t.Errorf("a smaller page: %v, %v", out, err)
	}
	for want, in := range map[string]ssm.GetParametersByPathInput{
		"ValidationException": {Path: aws.String("/soe"), MaxResults: aws.Int32(11)},
		"InvalidNextToken":    {Path: aws.String("/soe"), NextToken: aws.String("x")},
	} {
		if _, err := client.GetParametersByPath(t.Context(), &in); code(t, err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestAPageMayHaveATokenAndNoItems(t *testing.T) {
	s := awsfake.New(t)
	var want []string
	for i := range 12 {
		want = append(want, fmt.Sprintf("/soe/%02d", i))
		s.PutParameter(want[i], "1")
	}
	client := ssmClient(s, publishing)
	s.Fail("GetParametersByPath", 1, awsfake.EmptyPage)
	out, err := client.GetParametersByPath(t.Context(), &ssm.GetParametersByPathInput{Path: aws.String("/soe")})
	if err != nil || len(out.Parameters) != 0 || out.NextToken == nil {
		t.Errorf("got %v, %v", out, err)
	}
	s.Fail("GetParametersByPath", 2, awsfake.EmptyPage)
	s.Fail("GetParametersByPath", 1, awsfake.Before(func() {}))
	s.Fail("GetParametersByPath", 1, awsfake.EmptyPage)
	if diff := cmp.Diff(want, list(t, client, "/soe")); diff != "" {
		t.Error(diff)
	}
	if n := s.Calls("GetParametersByPath").Answered; n != 6 {
		t.Errorf("%d pages, want 6", n)
	}
}
