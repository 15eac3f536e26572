package awsfake_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	smtypes "github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/google/go-cmp/cmp"

	"github.com/soe-agent/soe-agent/test/awsfake"
)

func provide(credentials aws.Credentials) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return credentials, nil })
}

func ssmClient(s *awsfake.Server, options ...func(*ssm.Options)) *ssm.Client {
	return ssm.New(ssm.Options{
		BaseEndpoint: &s.URL, Region: awsfake.Region, Retryer: aws.NopRetryer{},
		Credentials: provide(awsfake.DefaultCredentials()),
	}, options...)
}

func secretsClient(s *awsfake.Server, options ...func(*secretsmanager.Options)) *secretsmanager.Client {
	return secretsmanager.New(secretsmanager.Options{
		BaseEndpoint: &s.URL, Region: awsfake.Region, Retryer: aws.NopRetryer{},
		Credentials: provide(awsfake.DefaultCredentials()),
	}, options...)
}

// publishing makes a client a publisher's.
func publishing(o *ssm.Options) { o.Credentials = provide(awsfake.PublisherCredentials()) }

// code returns the error code of the service, "" without an error.
func code(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		t.Fatalf("not an error of the service: %v", err)
	}
	return api.ErrorCode()
}

func get(t *testing.T, client *ssm.Client, name string) (string, error) {
	t.Helper()
	out, err := client.GetParameter(t.Context(), &ssm.GetParameterInput{Name: &name})
	if err != nil {
		return "", err
	}
	return *out.Parameter.Value, nil
}

func TestAParameterIsReadInTheVersionAskedFor(t *testing.T) {
	s := awsfake.New(t)
	client := ssmClient(s)
	for _, value := range []string{"one", "two", "three"} {
		s.PutParameter("/soe/prod/host", value)
	}
	label := &ssm.LabelParameterVersionInput{Name: aws.String("/soe/prod/host"), ParameterVersion: aws.Int64(2), Labels: []string{"stable"}}
	if _, err := ssmClient(s, publishing).LabelParameterVersion(t.Context(), label); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, value, code string
		version           int64
		selector          string
	}{
		{"/soe/prod/host", "three", "", 3, ""},
		{"/soe/prod/host:1", "one", "", 1, ":1"},
		{"/soe/prod/host:stable", "two", "", 2, ":stable"},
		{"/soe/prod/host:4", "", "ParameterVersionNotFound", 0, ""},
		{"/soe/prod/host:beta", "", "ParameterVersionNotFound", 0, ""},
		{"/soe/prod/none", "", "ParameterNotFound", 0, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			out, err := client.GetParameter(t.Context(), &ssm.GetParameterInput{Name: &test.name})
			if got := code(t, err); got != test.code {
				t.Fatalf("error %q, want %q", got, test.code)
			}
			if err != nil {
				return
			}
			p := out.Parameter
			if *p.Value != test.value || p.Version != test.version || aws.ToString(p.Selector) != test.selector {
				t.Errorf("got value %q, version %d, selector %q", *p.Value, p.Version, aws.ToString(p.Selector))
			}
			if *p.ARN != "arn:aws:ssm:eu-west-1:123456789012:parameter/soe/prod/host" || *p.Name != "/soe/prod/host" || p.Type != types.ParameterTypeString {
				t.Errorf("got ARN %q, name %q, type %q", *p.ARN, *p.Name, p.Type)
			}
			if age := time.Since(*p.LastModifiedDate); age < -time.Second || age > time.Minute {
				t.Errorf("modified at %v", p.LastModifiedDate)
			}
		})
	}
}

func TestParametersComeSortedAndMissingOnesAreNoError(t *testing.T) {
	s := awsfake.New(t)
	s.PutParameter("/b", "2")
	s.PutParameter("/a", "1")
	out, err := ssmClient(s).GetParameters(t.Context(), &ssm.GetParametersInput{Names: []string{"/b", "/none", "/a", "/a:7"}})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range out.Parameters {
		names = append(names, *p.Name)
	}
	if diff := cmp.Diff([]string{"/a", "/b"}, names); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"/none", "/a:7"}, out.InvalidParameters); diff != "" {
		t.Error(diff)
	}
}

func TestAtMostTenParametersAreReadAtOnce(t *testing.T) {
	client := ssmClient(awsfake.New(t))
	_, err := client.GetParameters(t.Context(), &ssm.GetParametersInput{Names: slices.Repeat([]string{"/a"}, 11)})
	if code(t, err) != "ValidationException" || !strings.Contains(err.Error(), "less than or equal to 10") {
		t.Error(err)
	}
}

func TestASecureStringIsCiphertextUnlessDecrypted(t *testing.T) {
	s := awsfake.New(t)
	s.PutSecureParameter("/soe/password", "hunter2")
	client := ssmClient(s)
	encrypted, err := get(t, client, "/soe/password")
	if err != nil || encrypted == "" || strings.Contains(encrypted, "hunter2") {
		t.Errorf("without decryption: %q, %v", encrypted, err)
	}
	out, err := client.GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String("/soe/password"), WithDecryption: aws.Bool(true)})
	if err != nil || *out.Parameter.Value != "hunter2" || out.Parameter.Type != types.ParameterTypeSecureString {
		t.Errorf("with decryption: %v, %v", out, err)
	}
}

func TestWhatParameterStoreRefusesToPut(t *testing.T) {
	s := awsfake.New(t)
	s.PutParameter("/there", "x")
	s.PutParameter("/advanced", strings.Repeat("x", 4097))
	tests := []struct {
		name  string
		in    ssm.PutParameterInput
		code  string
		about string
	}{
		{"4096 bytes", ssm.PutParameterInput{Name: aws.String("/n/a"), Value: aws.String(strings.Repeat("x", 4096))}, "", ""},
		{"4097 bytes", ssm.PutParameterInput{Name: aws.String("/n/b"), Value: aws.String(strings.Repeat("x", 4097))}, "ValidationException", "4096"},
		{"8192 bytes, advanced", ssm.PutParameterInput{Name: aws.String("/n/c"), Value: aws.String(strings.Repeat("x", 8192)), Tier: types.ParameterTierAdvanced}, "", ""},
		{"8193 bytes, advanced", ssm.PutParameterInput{Name: aws.String("/n/d"), Value: aws.String(strings.Repeat("x", 8193)), Tier: types.ParameterTierAdvanced}, "ValidationException", "8192"},
		{"4097 bytes, intelligent", ssm.PutParameterInput{Name: aws.String("/n/e"), Value: aws.String(strings.Repeat("x", 4097)), Tier: types.ParameterTierIntelligentTiering}, "", ""},
		{"back to standard", ssm.PutParameterInput{Name: aws.String("/advanced"), Value: aws.String("x"), Tier: types.ParameterTierStandard, Overwrite: aws.Bool(true)}, "ValidationException", "downgrade"},
		{"empty", ssm.PutParameterInput{Name: aws.String("/n/f"), Value: aws.String("")}, "ValidationException", "greater than or equal to 1"},
		{"a reference", ssm.PutParameterInput{Name: aws.String("/n/g"), Value: aws.String("host = \"{{resolve:ssm:/x}}\"\n")}, "ValidationException", "nest"},
		{"a space in the name", ssm.PutParameterInput{Name: aws.String("/n/a b"), Value: aws.String("x")}, "ValidationException", "sub-path"},
		{"no slash at the start of a path", ssm.PutParameterInput{Name: aws.String("n/a"), Value: aws.String("x")}, "ValidationException", "sub-path"},
		{"a reserved name", ssm.PutParameterInput{Name: aws.String("/aws/x"), Value: aws.String("x")}, "AccessDeniedException", "reserved"},
		{"another reserved name", ssm.PutParameterInput{Name: aws.String("ssm-x"), Value: aws.String("x")}, "ValidationException", "prefixed"},
		{"16 levels", ssm.PutParameterInput{Name: aws.String(strings.Repeat("/x", 16)), Value: aws.String("x")}, "HierarchyLevelLimitExceededException", ""},
		{"one that is there", ssm.PutParameterInput{Name: aws.String("/there"), Value: aws.String("x")}, "ParameterAlreadyExists", ""},
		{"another type", ssm.PutParameterInput{Name: aws.String("/there"), Value: aws.String("x"), Overwrite: aws.Bool(true), Type: types.ParameterTypeSecureString}, "HierarchyTypeMismatchException", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.in.Type == "" {
				test.in.Type = types.ParameterTypeString
			}
			_, err := ssmClient(s, publishing).PutParameter(t.Context(), &test.in)
			if got := code(t, err); got != test.code || err != nil && !strings.Contains(err.Error(), test.about) {
				t.Errorf("got %v, want %q with %q", err, test.code, test.about)
			}
		})
	}
}

func TestAPublisherWritesAndDeletes(t *testing.T) {
	s := awsfake.New(t)
	client, ctx := ssmClient(s, publishing), t.Context()
	for i, overwrite := range []bool{false, true} {
		out, err := client.PutParameter(ctx, &ssm.PutParameterInput{Name: aws.String("/a"), Value: aws.String("1"), Type: "String", Overwrite: &overwrite})
		if err != nil || out.Version != int64(i+1) || out.Tier != "Standard" {
			t.Errorf("got %+v, %v", out, err)
		}
	}
	_, err := client.PutParameter(ctx, &ssm.PutParameterInput{Name: aws.String("/a"), Value: aws.String("3"), Type: "String"})
	if code(t, err) != "ParameterAlreadyExists" {
		t.Error(err)
	}
	s.PutParameter("/b", "1")
	out, err := client.DeleteParameters(ctx, &ssm.DeleteParametersInput{Names: []string{"/b", "/none", "/a"}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][]string{{"/b", "/a"}, {"/none"}}, [][]string{out.DeletedParameters, out.InvalidParameters}); diff != "" {
		t.Error(diff)
	}
	if names := list(t, client, "/"); len(names) != 0 {
		t.Errorf("left: %q", names)
	}
	_, err = client.DeleteParameters(ctx, &ssm.DeleteParametersInput{Names: slices.Repeat([]string{"/a"}, 11)})
	if code(t, err) != "ValidationException" {
		t.Errorf("eleven: %v", err)
	}
}

func TestAParameterCanLookOld(t *testing.T) {
	s := awsfake.New(t)
	s.PutParameter("/a", "1")
	s.Age("/a", 240*time.Hour)
	out, err := ssmClient(s).GetParameter(t.Context(), &ssm.GetParameterInput{Name: aws.String("/a")})
	if err != nil {
		t.Fatal(err)
	}
	if age := time.Since(*out.Parameter.LastModifiedDate).Round(time.Hour); age != 240*time.Hour {
		t.Errorf("it looks %v old", age)
	}
}

func TestASecretIsReadByNameARNVersionAndStage(t *testing.T) {
	s := awsfake.New(t)
	client := secretsClient(s, func(o *secretsmanager.Options) { o.Credentials = provide(awsfake.PublisherCredentials()) })
	first, err := client.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: aws.String("soe/bind"), SecretString: aws.String("one")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{SecretId: aws.String("soe/bind"), SecretString: aws.String("two")}); err != nil {
		t.Fatal(err)
	}
	s.PutBinarySecret("soe/binary", []byte{0, 255})
	s.PutSecret("soe/gone", "x")
	s.DeleteSecret("soe/gone")
	tests := []struct {
		name string
		in   secretsmanager.GetSecretValueInput
		text string
		code string
	}{
		{"current", secretsmanager.GetSecretValueInput{SecretId: aws.String("soe/bind")}, "two", ""},
		{"by ARN", secretsmanager.GetSecretValueInput{SecretId: first.ARN}, "two", ""},
		{"by partial ARN", secretsmanager.GetSecretValueInput{SecretId: aws.String((*first.ARN)[:len(*first.ARN)-7])}, "two", ""},
		{"previous", secretsmanager.GetSecretValueInput{SecretId: aws.String("soe/bind"), VersionStage: aws.String("AWSPREVIOUS")}, "one", ""},
		{"by version", secretsmanager.GetSecretValueInput{SecretId: aws.String("soe/bind"), VersionId: first.VersionId}, "one", ""},
		{"version with another stage", secretsmanager.GetSecretValueInput{SecretId: aws.String("soe/bind"), VersionId: first.VersionId, VersionStage: aws.String("AWSCURRENT")}, "", "InvalidRequestException"},
		{"no such stage", secretsmanager.GetSecretValueInput{SecretId: aws.String("soe/bind"), VersionStage: aws.String("AWSPENDING")}, "", "ResourceNotFoundException"},
		{"no such secret", secretsmanager.GetSecretValueInput{SecretId: aws.String("soe/none")}, "", "ResourceNotFoundException"},
		{"deleted", secretsmanager.GetSecretValueInput{SecretId: aws.String("soe/gone")}, "", "InvalidRequestException"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			out, err := client.GetSecretValue(t.Context(), &test.in)
			if got := code(t, err); got != test.code {
				t.Fatalf("error %q, want %q", got, test.code)
			}
			if err == nil && aws.ToString(out.SecretString) != test.text {
				t.Errorf("got %q, want %q", aws.ToString(out.SecretString), test.text)
			}
		})
	}
	out, err := client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: aws.String("soe/binary")})
	if err != nil || out.SecretString != nil || !slices.Equal(out.SecretBinary, []byte{0, 255}) {
		t.Errorf("binary: %v, %v", out, err)
	}
}

func TestABatchOfSecretsReportsWhatFailedOfEach(t *testing.T) {
	s := awsfake.New(t)
	s.PutSecret("good", "1")
	s.PutSecret("denied", "2")
	s.FailSecret("denied", awsfake.Error(http.StatusBadRequest, "AccessDeniedException", "no"))
	client := secretsClient(s)
	ids := []string{"good", "denied", "none"}
	out, err := client.BatchGetSecretValue(t.Context(), &secretsmanager.BatchGetSecretValueInput{SecretIdList: ids})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.SecretValues) != 1 || *out.SecretValues[0].SecretString != "1" {
		t.Errorf("got %v", out.SecretValues)
	}
	failed := map[string]string{}
	for _, e := range out.Errors {
		failed[*e.SecretId] = *e.ErrorCode
	}
	if diff := cmp.Diff(map[string]string{"denied": "AccessDeniedException", "none": "ResourceNotFoundException"}, failed); diff != "" {
		t.Error(diff)
	}

	filters := []smtypes.Filter{{Key: smtypes.FilterNameStringTypeName, Values: []string{"good"}}}
	for want, in := range map[string]secretsmanager.BatchGetSecretValueInput{
		"InvalidParameterException": {SecretIdList: ids, Filters: filters},
		"AccessDeniedException":     {Filters: filters},
		"ValidationException":       {SecretIdList: slices.Repeat([]string{"good"}, 21)},
	} {
		if _, err := client.BatchGetSecretValue(t.Context(), &in); code(t, err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestWhoMayAskAndWhen(t *testing.T) {
	good := awsfake.DefaultCredentials()
	unknown, noToken, wrongSecret := good, good, good
	unknown.AccessKeyID = "ASIAUNKNOWN"
	noToken.SessionToken = ""
	wrongSecret.SecretAccessKey = "wrong"
	elsewhere := func(o *ssm.Options) { o.Region = "us-east-1" }
	tests := []struct {
		name   string
		signed aws.Credentials
		change func(*awsfake.Server)
		option func(*ssm.Options)
		code   string
	}{
		{name: "known credentials", signed: good},
		{name: "an unknown key", signed: unknown, code: "UnrecognizedClientException"},
		{name: "without the session token", signed: noToken, code: "UnrecognizedClientException"},
		{name: "a wrong secret", signed: wrongSecret, code: "InvalidSignatureException"},
		{name: "another region", signed: good, option: elsewhere, code: "InvalidSignatureException"},
		{name: "a clock four minutes off", signed: good, change: func(s *awsfake.Server) { s.SetClockSkew(4 * time.Minute) }},
		{name: "a clock six minutes behind", signed: good, change: func(s *awsfake.Server) { s.SetClockSkew(6 * time.Minute) }, code: "InvalidSignatureException"},
		{name: "a clock six minutes ahead", signed: good, change: func(s *awsfake.Server) { s.SetClockSkew(-6 * time.Minute) }, code: "InvalidSignatureException"},
		{name: "credentials that were replaced", signed: good, change: func(s *awsfake.Server) { s.SetCredentials(unknown) }, code: "UnrecognizedClientException"},
		{name: "credentials that expired", signed: good, change: func(s *awsfake.Server) {
			expired := good
			expired.CanExpire, expired.Expires = true, time.Now().Add(-time.Second)
			s.SetCredentials(expired)
		}, code: "ExpiredTokenException"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := awsfake.New(t)
			s.PutParameter("/a", "1")
			if test.change != nil {
				test.change(s)
			}
			client := ssmClient(s, func(o *ssm.Options) {
				o.Credentials = provide(test.signed)
				if test.option != nil {
					test.option(o)
				}
			})
			if _, err := get(t, client, "/a"); code(t, err) != test.code {
				t.Errorf("got %v, want %q", err, test.code)
			}
			if got := s.Requests(); len(got) != 1 || got[0].AccessKeyID != test.signed.AccessKeyID {
				t.Errorf("recorded %v", got)
			}
		})
	}
}

func TestAnAlteredBodyIsNotBelieved(t *testing.T) {
	s := awsfake.New(t)
	s.PutParameter("/a", "1")
	alter := func(o *ssm.Options) { o.HTTPClient = alteringClient{} }
	if _, err := get(t, ssmClient(s, alter), "/b"); code(t, err) != "InvalidSignatureException" {
		t.Errorf("got %v", err)
	}
}

// alteringClient sends another body than the one that was signed.
type alteringClient struct{}

func (alteringClient) Do(r *http.Request) (*http.Response, error) {
	other, err := http.NewRequestWithContext(r.Context(), r.Method, r.URL.String(), strings.NewReader(`{"Name":"/a"}`))
	if err != nil {
		return nil, err
	}
	other.Header = r.Header
	return http.DefaultClient.Do(other)
}

func TestARequestThatIsNotSignedIsRefused(t *testing.T) {
	s := awsfake.New(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", "AmazonSSM.GetParameter")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusBadRequest || response.Header.Get("X-Amzn-Requestid") == "" {
		t.Errorf("got %v", response)
	}
}

func TestAnErrorOfTheServiceHasARequestID(t *testing.T) {
	_, err := get(t, ssmClient(awsfake.New(t)), "/none")
	var response *smithyhttp.ResponseError
	if !errors.As(err, &response) || response.HTTPStatusCode() != http.StatusBadRequest || !strings.Contains(err.Error(), "RequestID: ") {
		t.Errorf("got %v", err)
	}
}
