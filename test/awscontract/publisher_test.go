package awscontract

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/soe-agent/soe-agent/test/awsfake"
)

func listParameters(path string, recursive bool, pageSize int32) step {
	return func(ctx context.Context, c *ssm.Client, _ *secretsmanager.Client) (string, error) {
		var pages []int
		var found []string
		in := &ssm.GetParametersByPathInput{Path: &path, Recursive: &recursive, MaxResults: &pageSize}
		for list := ssm.NewGetParametersByPathPaginator(c, in); list.HasMorePages(); {
			page, err := list.NextPage(ctx)
			if err != nil {
				return "", err
			}
			pages = append(pages, len(page.Parameters))
			for _, p := range page.Parameters {
				found = append(found, describe(p, false))
			}
		}
		slices.Sort(found) // awsfake's are sorted, moto's are not, and AWS documents no order
		return fmt.Sprintf("pages of %d: %q", pages, found), nil
	}
}

func deleteParameters(names ...string) step {
	return func(ctx context.Context, c *ssm.Client, _ *secretsmanager.Client) (string, error) {
		out, err := c.DeleteParameters(ctx, &ssm.DeleteParametersInput{Names: names})
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("deleted %q invalid %q", out.DeletedParameters, out.InvalidParameters), nil
	}
}

func addTags(kind types.ResourceTypeForTagging, id string, tags ...string) step {
	return func(ctx context.Context, c *ssm.Client, _ *secretsmanager.Client) (string, error) {
		in := &ssm.AddTagsToResourceInput{ResourceType: kind, ResourceId: &id}
		for _, tag := range tags {
			key, value, _ := strings.Cut(tag, "=")
			in.Tags = append(in.Tags, types.Tag{Key: &key, Value: &value})
		}
		_, err := c.AddTagsToResource(ctx, in)
		return "", err
	}
}

func listTags(kind types.ResourceTypeForTagging, id string) step {
	return func(ctx context.Context, c *ssm.Client, _ *secretsmanager.Client) (string, error) {
		out, err := c.ListTagsForResource(ctx, &ssm.ListTagsForResourceInput{ResourceType: kind, ResourceId: &id})
		if err != nil {
			return "", err
		}
		var tags []string
		for _, tag := range out.TagList {
			tags = append(tags, *tag.Key+"="+*tag.Value)
		}
		slices.Sort(tags)
		return fmt.Sprintf("%q", tags), nil
	}
}

// publisherProbes are what a publisher of policies does, besides reading. Not among them is where moto is known to
// differ from what AWS documents: it has a token after a last page that is full, knows every managed
// node, and has no limits to the number of names and items.
func publisherProbes() []probe {
	var all []probe
	for _, name := range []string{"manifest", "policy/10-base/1", "policy/10-base/2", "policy/20-more/1", "policy/30-most/1"} {
		in := ssm.PutParameterInput{Name: aws.String("/fleet/prod/" + name), Value: aws.String("x")}
		all = append(all, probe{"put " + name, putParameter(in)})
	}
	return append(all,
		probe{"write once", putParameter(ssm.PutParameterInput{Name: aws.String("/fleet/prod/manifest"), Value: aws.String("y"), Overwrite: aws.Bool(false)})},
		probe{"what was there is not overwritten", getParameter("/fleet/prod/manifest", false)},
		probe{"put outside", putParameter(ssm.PutParameterInput{Name: aws.String("/fleet/prod2/a"), Value: aws.String("x")})},
		probe{"list children", listParameters("/fleet/prod", false, 10)},
		probe{"list all levels", listParameters("/fleet/prod", true, 10)},
		probe{"list with a slash at the end", listParameters("/fleet/prod/", true, 10)},
		probe{"list pages", listParameters("/fleet/prod", true, 2)},
		probe{"list nothing", listParameters("/none", true, 10)},
		probe{"tag", addTags("Parameter", "/fleet/prod/manifest", "Stage=prod", "Owner=me")},
		probe{"tag again", addTags("Parameter", "/fleet/prod/manifest", "Stage=test")},
		probe{"tags", listTags("Parameter", "/fleet/prod/manifest")},
		probe{"no tags", listTags("Parameter", "/fleet/prod2/a")},
		probe{"tag what is not there", addTags("Parameter", "/fleet/none", "a=b")},
		probe{"tags of what is not there", listTags("Parameter", "/fleet/none")},
		probe{"tags of another sort of thing", listTags("WorkSpace", "ws-0123456789")},
		probe{"delete several", deleteParameters("/fleet/prod/policy/20-more/1", "/fleet/none", "/fleet/prod/policy/30-most/1")},
		probe{"list what is left", listParameters("/fleet", true, 10)},
		probe{"put what was deleted", putParameter(ssm.PutParameterInput{Name: aws.String("/fleet/prod/policy/20-more/1"), Value: aws.String("x")})},
	)
}

func TestTheServiceModelForbidsTheCallsThatAwsfakeRefuses(t *testing.T) {
	s := awsfake.New(t)
	c, _ := clients(s.URL)
	eleven := slices.Repeat([]string{"/soe/a"}, 11)
	tests := []struct {
		name string
		do   func(context.Context) error
	}{
		{"GetParameters", func(ctx context.Context) error {
			_, err := c.GetParameters(ctx, &ssm.GetParametersInput{Names: eleven})
			return err
		}},
		{"DeleteParameters", func(ctx context.Context) error {
			_, err := c.DeleteParameters(ctx, &ssm.DeleteParametersInput{Names: eleven})
			return err
		}},
		{"DeleteParameters", func(ctx context.Context) error {
			_, err := c.DeleteParameters(ctx, &ssm.DeleteParametersInput{Names: []string{}})
			return err
		}},
		{"GetParametersByPath", func(ctx context.Context) error {
			_, err := c.GetParametersByPath(ctx, &ssm.GetParametersByPathInput{Path: aws.String("/soe"), MaxResults: aws.Int32(11)})
			return err
		}},
		{"GetParametersByPath", func(ctx context.Context) error {
			_, err := c.GetParametersByPath(ctx, &ssm.GetParametersByPathInput{Path: aws.String("")})
			return err
		}},
		{"AddTagsToResource", func(ctx context.Context) error {
			in := &ssm.AddTagsToResourceInput{ResourceType: "Parameter", ResourceId: aws.String("/soe/a"), Tags: []types.Tag{{Key: aws.String(""), Value: aws.String("")}}}
			_, err := c.AddTagsToResource(ctx, in)
			return err
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s.ForgetRequests()
			if got := outcome("", test.do(t.Context())); got != "error ValidationException" {
				t.Errorf("awsfake: %s", got)
			}
			if out := checkAgainstModel(t, test.name, s.Requests()[0].Body); out == "" {
				t.Errorf("the model allows %s", s.Requests()[0].Body)
			}
		})
	}
}
