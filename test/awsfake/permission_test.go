package awsfake_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/test/awsfake"
)

// wantDenied fails the test unless the error is that an action on a resource is not allowed.
func wantDenied(t *testing.T, err error, action, resource string) {
	t.Helper()
	if code(t, err) != "AccessDeniedException" || !strings.Contains(err.Error(), "not authorized to perform: "+action+" on resource: "+resource+" ") {
		t.Errorf("got %v, want a denial of %s on %s", err, action, resource)
	}
}

const parameters = "arn:aws:ssm:eu-west-1:123456789012:parameter"

func TestANodeMayReadWhatItIsToldButNeitherListNorWrite(t *testing.T) {
	s := awsfake.New(t)
	client, ctx := ssmClient(s), t.Context()
	_, err := client.GetParametersByPath(ctx, &ssm.GetParametersByPathInput{Path: aws.String("/soe")})
	wantDenied(t, err, "ssm:GetParametersByPath", parameters+"/soe")
	_, err = client.PutParameter(ctx, &ssm.PutParameterInput{Name: aws.String("/soe/a"), Value: aws.String("1"), Type: "String"})
	wantDenied(t, err, "ssm:PutParameter", parameters+"/soe/a")
	_, err = client.DeleteParameters(ctx, &ssm.DeleteParametersInput{Names: []string{"/soe/a"}})
	wantDenied(t, err, "ssm:DeleteParameters", parameters+"/soe/a")
	_, err = client.LabelParameterVersion(ctx, &ssm.LabelParameterVersionInput{Name: aws.String("/soe/a"), Labels: []string{"x"}})
	wantDenied(t, err, "ssm:LabelParameterVersion", parameters+"/soe/a")
	secrets := secretsClient(s)
	_, err = secrets.CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: aws.String("a"), SecretString: aws.String("1")})
	wantDenied(t, err, "secretsmanager:CreateSecret", awsfake.SecretARN("a"))
	_, err = secrets.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{SecretId: aws.String("a"), SecretString: aws.String("1")})
	wantDenied(t, err, "secretsmanager:PutSecretValue", awsfake.SecretARN("a"))
	if _, err := get(t, client, "/soe/a"); code(t, err) != "ParameterNotFound" {
		t.Errorf("written: %v", err)
	}
}

func TestOneDeniedParameterFailsTheCallsThatNameIt(t *testing.T) {
	s := awsfake.New(t)
	for _, name := range []string{"/soe/a", "/soe/b", "/soe/c"} {
		s.PutParameter(name, "1")
	}
	s.DenyParameter("/soe/b")
	client, ctx := ssmClient(s), t.Context()
	_, err := client.GetParameters(ctx, &ssm.GetParametersInput{Names: []string{"/soe/a", "/soe/b:1", "/soe/c"}})
	wantDenied(t, err, "ssm:GetParameters", parameters+"/soe/b")
	_, err = get(t, client, "/soe/b")
	wantDenied(t, err, "ssm:GetParameter", parameters+"/soe/b")
	out, err := client.GetParameters(ctx, &ssm.GetParametersInput{Names: []string{"/soe/a", "/soe/c"}})
	if err != nil || len(out.Parameters) != 2 {
		t.Errorf("without it: %v, %v", out, err)
	}
	if names := list(t, ssmClient(s, publishing), "/soe"); len(names) != 3 {
		t.Errorf("who may read the path finds %q", names)
	}
	s.Heal()
	if _, err := get(t, client, "/soe/b"); err != nil {
		t.Errorf("healed: %v", err)
	}
}

func TestADeniedActionIsDeniedForEverything(t *testing.T) {
	s := awsfake.New(t)
	s.PutParameter("/a", "1")
	s.PutSecret("bind", "1")
	s.SetTags(node, nil)
	s.Deny("ssm:GetParameter")
	s.Deny("ssm:ListTagsForResource")
	s.Deny("secretsmanager:BatchGetSecretValue")
	client, secrets, ctx := ssmClient(s), secretsClient(s), t.Context()
	_, err := get(t, client, "/a")
	wantDenied(t, err, "ssm:GetParameter", parameters+"/a")
	_, err = client.ListTagsForResource(ctx, tagsOf(node))
	wantDenied(t, err, "ssm:ListTagsForResource", "arn:aws:ssm:eu-west-1:123456789012:managed-instance/"+node)
	batch := &secretsmanager.BatchGetSecretValueInput{SecretIdList: []string{"bind"}}
	_, err = secrets.BatchGetSecretValue(ctx, batch)
	wantDenied(t, err, "secretsmanager:BatchGetSecretValue", "*")

	if _, err := client.GetParameters(ctx, &ssm.GetParametersInput{Names: []string{"/a"}}); err != nil {
		t.Errorf("another action: %v", err)
	}
	if _, err := secrets.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String("bind")}); err != nil {
		t.Errorf("one secret: %v", err)
	}
	s.Heal()
	if _, err := secrets.BatchGetSecretValue(ctx, batch); err != nil {
		t.Errorf("healed: %v", err)
	}
}

func TestADeniedSecretIsDeniedAloneInABatch(t *testing.T) {
	s := awsfake.New(t)
	s.PutSecret("good", "1")
	s.PutSecret("bad", "2")
	s.DenySecret("bad")
	s.DenySecret("none")
	secrets, ctx := secretsClient(s), t.Context()
	ids := []string{awsfake.SecretARN("bad"), "good", "none"}
	out, err := secrets.BatchGetSecretValue(ctx, &secretsmanager.BatchGetSecretValueInput{SecretIdList: ids})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.SecretValues) != 1 || *out.SecretValues[0].Name != "good" {
		t.Errorf("got %v", out.SecretValues)
	}
	failed := map[string]string{}
	for _, e := range out.Errors {
		failed[*e.SecretId] = *e.ErrorCode
		if !strings.Contains(*e.Message, "secretsmanager:GetSecretValue on resource: "+awsfake.SecretARN("")[:50]) {
			t.Errorf("%s: %s", *e.SecretId, *e.Message)
		}
	}
	if diff := cmp.Diff(map[string]string{ids[0]: "AccessDeniedException", "none": "AccessDeniedException"}, failed); diff != "" {
		t.Error(diff)
	}
	_, err = secrets.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String("bad")})
	wantDenied(t, err, "secretsmanager:GetSecretValue", awsfake.SecretARN("bad"))
	s.Heal()
	s.Deny("secretsmanager:GetSecretValue")
	out, err = secrets.BatchGetSecretValue(ctx, &secretsmanager.BatchGetSecretValueInput{SecretIdList: ids})
	if err != nil || len(out.Errors) != 3 {
		t.Errorf("the action that each secret needs: %v, %v", out, err)
	}
}

func TestWithoutTheKeyASecureStringIsReadEncrypted(t *testing.T) {
	s := awsfake.New(t)
	s.PutParameter("/plain", "1")
	s.PutSecureParameter("/secure", "hunter2")
	s.DenyDecryption("/secure")
	client, ctx := ssmClient(s), t.Context()
	const key = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	_, err := client.GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String("/secure"), WithDecryption: aws.Bool(true)})
	wantDenied(t, err, "kms:Decrypt", key)
	_, err = client.GetParameters(ctx, &ssm.GetParametersInput{Names: []string{"/plain", "/secure"}, WithDecryption: aws.Bool(true)})
	wantDenied(t, err, "kms:Decrypt", key)
	if value, err := get(t, client, "/secure"); err != nil || value == "hunter2" {
		t.Errorf("encrypted: %q, %v", value, err)
	}
}
