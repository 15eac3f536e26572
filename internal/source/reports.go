package source

import (
	"context"
	"errors"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"
)

// PutCompliance replaces what SSM Compliance has of a managed node. It is one attempt,
// and may be called by any goroutine.
func (a *AWS) PutCompliance(ctx context.Context, in *ssm.PutComplianceItemsInput) error {
	_, err := a.ssm.PutComplianceItems(ctx, in)
	return a.distrusting(err)
}

// PutInventory replaces what SSM Inventory has of a managed node, of the types that are
// given. It is one attempt, and may be called by any goroutine.
func (a *AWS) PutInventory(ctx context.Context, in *ssm.PutInventoryInput) error {
	_, err := a.ssm.PutInventory(ctx, in)
	return a.distrusting(err)
}

// distrusting has the credentials read again before the next attempt if the error is
// about them.
func (a *AWS) distrusting(err error) error {
	if err != nil && Classify(err) == Credentials {
		a.forget()
	}
	return err
}

// TooLarge says of an error that the same request would do if it were smaller.
func TooLarge(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && slices.Contains([]string{
		"RequestEntityTooLargeException", "ItemSizeLimitExceededException", "TotalSizeLimitExceededException",
	}, api.ErrorCode())
}
