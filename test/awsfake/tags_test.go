package awsfake_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/test/awsfake"
)

func tagsOf(node string) *ssm.ListTagsForResourceInput {
	return &ssm.ListTagsForResourceInput{ResourceType: "ManagedInstance", ResourceId: &node}
}

func TestANodeReadsItsTags(t *testing.T) {
	s := awsfake.New(t)
	s.SetTags(node, map[string]string{"Persona": "developer", "Cost": "42"})
	client := ssmClient(s)
	tags := func() map[string]string {
		out, err := client.ListTagsForResource(t.Context(), tagsOf(node))
		if err != nil {
			t.Fatal(err)
		}
		tags := map[string]string{}
		for _, tag := range out.TagList {
			tags[*tag.Key] = *tag.Value
		}
		return tags
	}
	if diff := cmp.Diff(map[string]string{"Persona": "developer", "Cost": "42"}, tags()); diff != "" {
		t.Error(diff)
	}
	s.SetTags(node, nil)
	if diff := cmp.Diff(map[string]string{}, tags()); diff != "" {
		t.Error(diff)
	}
	for want, in := range map[string]*ssm.ListTagsForResourceInput{
		"InvalidResourceId":   tagsOf("mi-0123456789abcdef1"),
		"InvalidResourceType": {ResourceType: "WorkSpace", ResourceId: aws.String(node)},
	} {
		if _, err := client.ListTagsForResource(t.Context(), in); code(t, err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestAPublisherTagsWhatThereIs(t *testing.T) {
	s := awsfake.New(t)
	s.PutParameter("/a", "1")
	client, ctx := ssmClient(s, publishing), t.Context()
	in := &ssm.AddTagsToResourceInput{ResourceType: "Parameter", ResourceId: aws.String("/a"), Tags: []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}}
	if _, err := client.AddTagsToResource(ctx, in); err != nil {
		t.Fatal(err)
	}
	out, err := client.ListTagsForResource(ctx, &ssm.ListTagsForResourceInput{ResourceType: "Parameter", ResourceId: aws.String("/a")})
	if err != nil || len(out.TagList) != 1 || *out.TagList[0].Key != "k" || *out.TagList[0].Value != "v" {
		t.Errorf("got %v, %v", out, err)
	}
	s.DeleteParameter("/a")
	if _, err := client.AddTagsToResource(ctx, in); code(t, err) != "InvalidResourceId" {
		t.Errorf("deleted: %v", err)
	}
}
