package source

import (
	"context"
	"errors"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"
)

// PutCompliance replaces the SSM Compliance items of a managed node. It makes one attempt. It may be
// called by any goroutine.
func (a *AWS) PutCompliance(ctx context.Context, in *ssm.PutComplianceItemsInput) error {
	_, err := a.ssm.PutComplianceItems(ctx, in)
	return a.distrusting(err)
}

// PutInventory replaces the SSM Inventory items of a managed node, for the types given. It makes one
// attempt. It may be called by any goroutine.
func (a *AWS) PutInventory(ctx context.Context, in *ssm.PutInventoryInput) error {
	_, err := a.ssm.PutInventory(ctx, in)
	return a.distrusting(err)
}

// distrusting makes the next attempt read the credentials again if the error is about them.
func (a *AWS) distrusting(err error) error {
	if err != nil && Classify(err) == Credentials {
		a.forget()
	}
	return err
}

// TooLarge says whether the same request could succeed if it were smaller.
func TooLarge(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && slices.Contains([]string{
		"RequestEntityTooLargeException", "ItemSizeLimitExceededException", "TotalSizeLimitExceededException",
	}, api.ErrorCode())
}
