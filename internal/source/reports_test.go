package source_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/soe-agent/soe-agent/internal/source"
	"github.com/soe-agent/soe-agent/test/awsfake"
)

// counting provides credentials and counts the calls of Forget.
type counting struct{ forgotten int }

func (*counting) Retrieve(context.Context) (aws.Credentials, error) {
	return awsfake.DefaultCredentials(), nil
}
func (c *counting) Forget() { c.forgotten++ }

func TestAReportThatIsRefusedForItsCredentialsHasThemReadAgain(t *testing.T) {
	server := awsfake.InMemory()
	credentials := &counting{}
	to, err := source.Connect(source.Config{Endpoint: server.URL}, awsfake.Region, credentials,
		&http.Client{Transport: server.RoundTripper()}, source.Retry{})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	items := &ssm.PutComplianceItemsInput{
		ResourceId: aws.String("mi-0123456789abcdef0"), ResourceType: aws.String("ManagedInstance"), ComplianceType: aws.String("Custom:SoeAgent"),
		ExecutionSummary: &types.ComplianceExecutionSummary{ExecutionTime: &now}, Items: []types.ComplianceItemEntry{},
	}
	line := &ssm.PutInventoryInput{InstanceId: items.ResourceId, Items: []types.InventoryItem{{
		TypeName: items.ComplianceType, SchemaVersion: aws.String("1.0"), CaptureTime: aws.String("2026-11-21T09:00:00Z"),
	}}}
	for action, put := range map[string]func() error{
		"PutComplianceItems": func() error { return to.PutCompliance(t.Context(), items) },
		"PutInventory":       func() error { return to.PutInventory(t.Context(), line) },
	} {
		t.Run(action, func(t *testing.T) {
			*credentials = counting{}
			for code, forgotten := range map[string]int{"ExpiredTokenException": 1, "ThrottlingException": 0, "TotalSizeLimitExceededException": 0} {
				*credentials = counting{}
				server.Fail(action, 1, awsfake.Error(http.StatusBadRequest, code, "").Fault)
				err := put()
				if err == nil || credentials.forgotten != forgotten || source.TooLarge(err) != (code == "TotalSizeLimitExceededException") {
					t.Errorf("%s: %v, forgotten %d times, too large: %v", code, err, credentials.forgotten, source.TooLarge(err))
				}
			}
			if err := put(); err != nil {
				t.Error(err)
			}
		})
	}
}
