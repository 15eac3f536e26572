package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"

	"github.com/soe-agent/soe-agent/internal/policy"
)

const (
	// mostSecrets is how many secrets one call reads (Secrets Manager API Reference,
	// BatchGetSecretValue).
	mostSecrets = 20
	// secretsTimeout is how long reading secrets may hold up everything else. Secrets Manager is
	// another service, and its failure must not stop the rest of the policy.
	secretsTimeout = time.Minute
	// currentStage is the stage of a reference that names none.
	currentStage = "AWSCURRENT"
)

// secretValues reads each secret once, however many of its keys are wanted. Secrets whose current version
// is wanted are read twenty a call.
func (a *AWS) secretValues(ctx context.Context, references []policy.Reference) (map[policy.Reference]string, Missing) {
	ctx, cancel := context.WithTimeout(ctx, secretsTimeout)
	defer cancel()
	var current, others []policy.Reference // whole secrets, each once
	for _, r := range references {
		switch r = wholeSecret(r); {
		case r.Stage == "" && r.Version == "":
			current = append(current, r)
		default:
			others = append(others, r)
		}
	}
	texts, whys := map[policy.Reference]string{}, Missing{}
	alone := func(r policy.Reference) {
		text, err := a.secret(ctx, r)
		if err != nil {
			whys[r] = err
			return
		}
		texts[r] = text
	}
	for batch := range slices.Chunk(unique(current), mostSecrets) {
		if time.Now().Before(a.batchRefused) || !a.secretBatch(ctx, batch, texts, whys) {
			for _, r := range batch {
				alone(r)
			}
		}
	}
	for _, r := range unique(others) {
		alone(r)
	}

	values, missing := map[policy.Reference]string{}, Missing{}
	for _, r := range references {
		why := whys[wholeSecret(r)]
		if why == nil {
			values[r], why = pick(r, texts[wholeSecret(r)])
		}
		if why != nil {
			delete(values, r)
			missing[r] = fmt.Errorf("cannot resolve %s: %w", r, why)
		}
	}
	return values, missing
}

// wholeSecret returns the reference to the whole secret of which r may mean one key.
func wholeSecret(r policy.Reference) policy.Reference {
	r.JSONKey = ""
	if r.Stage == currentStage && r.Version == "" {
		r.Stage = ""
	}
	return r
}

// unique returns the references without duplicates.
func unique(references []policy.Reference) []policy.Reference {
	var once []policy.Reference
	for _, r := range references {
		if !slices.Contains(once, r) {
			once = append(once, r)
		}
	}
	return once
}

// secretBatch reads secrets with one call. ok is false if that is not allowed, or keeps failing: then they
// have to be read one by one.
func (a *AWS) secretBatch(ctx context.Context, batch []policy.Reference, texts map[policy.Reference]string, whys Missing) (ok bool) {
	in := &secretsmanager.BatchGetSecretValueInput{}
	for _, r := range batch {
		in.SecretIdList = append(in.SecretIdList, r.Name)
	}
	var found []types.SecretValueEntry
	var failed []types.APIErrorType
	err := a.callFor(ctx, func(ctx context.Context) error {
		found, failed, in.NextToken = nil, nil, nil
		for pages := secretsmanager.NewBatchGetSecretValuePaginator(a.secrets, in, onceEach); pages.HasMorePages(); {
			out, err := pages.NextPage(ctx)
			if err != nil {
				return err
			}
			found, failed = append(found, out.SecretValues...), append(failed, out.Errors...)
		}
		return nil
	})
	switch {
	case err != nil && !Classify(err).passes():
		a.batchRefused = time.Now().Add(lasts(err))
		return false
	case err != nil:
		for _, r := range batch {
			whys[r] = err
		}
		return true
	}
	for _, r := range batch {
		whys[r] = errEmptyAnswer
		for _, entry := range found {
			if isSecret(r.Name, entry) {
				delete(whys, r)
				if entry.SecretString == nil {
					whys[r] = errBinary
				}
				texts[r] = aws.ToString(entry.SecretString)
			}
		}
		for _, failure := range failed {
			if aws.ToString(failure.SecretId) == r.Name {
				whys[r] = secretError(&smithy.GenericAPIError{Code: aws.ToString(failure.ErrorCode), Message: aws.ToString(failure.Message)})
			}
		}
	}
	return true
}

// onceEach stops a listing that returns the same page token twice.
func onceEach(o *secretsmanager.BatchGetSecretValuePaginatorOptions) { o.StopOnDuplicateToken = true }

// isSecret says whether id means the secret of an entry. An id is a name, an ARN, or an ARN without the
// hyphen and six characters at its end.
func isSecret(id string, entry types.SecretValueEntry) bool {
	arn := aws.ToString(entry.ARN)
	return id == aws.ToString(entry.Name) || id == arn || len(arn) > 7 && id == arn[:len(arn)-7] && strings.HasPrefix(id, "arn:")
}

var errBinary = fmt.Errorf("the secret is binary, not text: %w", ErrNoValue)

// secret reads one secret.
func (a *AWS) secret(ctx context.Context, r policy.Reference) (string, error) {
	in := &secretsmanager.GetSecretValueInput{SecretId: &r.Name}
	if r.Stage != "" {
		in.VersionStage = &r.Stage
	}
	if r.Version != "" {
		in.VersionId = &r.Version
	}
	var text *string
	err := a.callFor(ctx, func(ctx context.Context) error {
		out, err := a.secrets.GetSecretValue(ctx, in)
		if err == nil {
			text = out.SecretString
		}
		return err
	})
	switch {
	case err != nil:
		return "", secretError(err)
	case text == nil:
		return "", errBinary
	}
	return *text, nil
}

// secretError turns the error for a secret that does not exist into ErrNoValue.
func secretError(err error) error {
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorCode() == "ResourceNotFoundException" {
		return ErrNoValue
	}
	return err
}

// pick returns the part of a secret that a reference means: the decoded text of a JSON string, and the raw
// bytes of any other JSON value. Its errors do not quote the secret.
func pick(r policy.Reference, text string) (string, error) {
	if r.JSONKey == "" {
		return text, nil
	}
	var object map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &object) != nil {
		return "", fmt.Errorf("the secret is not a JSON object: %w", ErrNoValue)
	}
	raw, there := object[r.JSONKey]
	var value string
	switch {
	case !there:
		return "", fmt.Errorf("the secret has no such key: %w", ErrNoValue)
	case string(raw) == "null":
		return "", fmt.Errorf("the value of that key in the secret is null: %w", ErrNoValue)
	case raw[0] != '"':
		return string(raw), nil // a number or an object exactly as it is written
	}
	if err := json.Unmarshal(raw, &value); err != nil || strings.ContainsRune(value, utf8.RuneError) && !meansReplacement(raw) {
		return "", fmt.Errorf("the value of that key in the secret is not valid Unicode: %w", ErrNoValue)
	}
	return value, nil
}

// meansReplacement says whether U+FFFD is itself in a JSON string, and did not come from decoding bytes or
// escapes that are not valid Unicode.
func meansReplacement(raw json.RawMessage) bool {
	return !loneSurrogate.Match(escapedPair.ReplaceAll(raw, nil)) && utf8.Valid(raw)
}

var (
	escapedPair   = regexp.MustCompile(`\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}`)
	loneSurrogate = regexp.MustCompile(`\\u[dD][89a-fA-F][0-9a-fA-F]{2}`)
)
