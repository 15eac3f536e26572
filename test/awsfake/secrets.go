package awsfake

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	maxSecretBytes = 65536
	maxBatch       = 20

	currentStage  = "AWSCURRENT"
	previousStage = "AWSPREVIOUS"
)

type secret struct {
	name     string
	versions []*secretVersion
	deleted  bool
	failure  *APIError // of reading it; nil: none
}

type secretVersion struct {
	id      string
	text    *string
	binary  []byte
	created time.Time
	stages  []string
}

// PutSecret stores a text as the current version of a secret, which is made if need be. What was current
// becomes AWSPREVIOUS. It panics where Secrets Manager would refuse the value.
func (s *Server) PutSecret(name, value string) { s.rotate(name, secretValue{SecretString: &value}) }

// PutBinarySecret is PutSecret for a binary value.
func (s *Server) PutBinarySecret(name string, value []byte) {
	s.rotate(name, secretValue{SecretBinary: value})
}

func (s *Server) rotate(name string, value secretValue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := value.check(); err != nil {
		panic(fmt.Errorf("cannot put the secret %s: %w", name, err))
	}
	if s.secrets[name] == nil {
		s.secrets[name] = &secret{name: name}
	}
	s.secrets[name].deleted = false
	s.secrets[name].add(value, uuid(), s.now(), nil)
}

// DeleteSecret schedules a secret for deletion, as AWS does it: from now on it cannot be read.
func (s *Server) DeleteSecret(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if secret := s.secrets[name]; secret != nil {
		secret.deleted = true
	}
}

// FailSecret makes every read of one secret fail with the error, until Heal; BatchGetSecretValue reports it
// among its Errors. It panics if there is no such secret.
func (s *Server) FailSecret(name string, err *APIError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets[name].failure = err
}

// SecretARN returns the ARN of a secret, which ends in six characters that depend on the name alone.
func SecretARN(name string) string {
	sum := sha256.Sum256([]byte(name))
	suffix := strings.NewReplacer("-", "x", "_", "x").Replace(base64.URLEncoding.EncodeToString(sum[:]))[:6]
	return arn("secretsmanager", "secret:"+name+"-"+suffix)
}

type secretValue struct {
	SecretString       *string
	SecretBinary       []byte
	ClientRequestToken string
}

func (value secretValue) check() *APIError {
	var v violations
	if value.SecretString != nil {
		v.constraint(len(*value.SecretString) <= maxSecretBytes, "…", "secretString", "have length less than or equal to 65536")
	}
	v.constraint(len(value.SecretBinary) <= maxSecretBytes, "…", "secretBinary", "have length less than or equal to 65536")
	if value.ClientRequestToken != "" {
		v.length(value.ClientRequestToken, "clientRequestToken", 32, 64)
	}
	if err := v.err(); err != nil {
		return err
	}
	if (value.SecretString == nil) == (value.SecretBinary == nil) {
		return Error(http.StatusBadRequest, "InvalidRequestException", "You must provide either SecretString or SecretBinary.")
	}
	return nil
}

func (value secretValue) token() string {
	if value.ClientRequestToken == "" {
		return uuid()
	}
	return value.ClientRequestToken
}

// add adds a version with these stages, each of which it takes from the version that has it. No stages
// means that it becomes current, and what was current previous.
func (sec *secret) add(value secretValue, id string, now time.Time, stages []string) *secretVersion {
	if len(stages) == 0 {
		stages = []string{currentStage}
	}
	if current := sec.at("", currentStage); current != nil && slices.Contains(stages, currentStage) {
		sec.dropStages([]string{previousStage})
		current.stages = append(current.stages, previousStage)
	}
	sec.dropStages(stages)
	version := &secretVersion{id: id, text: value.SecretString, binary: value.SecretBinary, created: now, stages: stages}
	sec.versions = append(sec.versions, version)
	return version
}

func (sec *secret) dropStages(stages []string) {
	for _, v := range sec.versions {
		v.stages = slices.DeleteFunc(v.stages, func(stage string) bool { return slices.Contains(stages, stage) })
	}
}

// at returns the version with that ID and stage, of which either may be empty; or nil.
func (sec *secret) at(id, stage string) *secretVersion {
	for _, v := range sec.versions {
		if (id == "" || v.id == id) && (stage == "" || slices.Contains(v.stages, stage)) {
			return v
		}
	}
	return nil
}

// findSecret looks a secret up by name, ARN, or ARN without the six characters at the end.
func (s *Server) findSecret(id string) *secret {
	name := strings.TrimPrefix(id, arn("secretsmanager", "secret:"))
	if found := s.secrets[name]; found != nil {
		return found
	}
	for _, candidate := range s.secrets {
		if SecretARN(candidate.name) == id {
			return candidate
		}
	}
	return nil
}

func (s *Server) createSecret(in struct {
	Name string
	secretValue
},
) (any, *APIError) {
	var v violations
	v.length(in.Name, "name", 1, 512)
	if err := v.err(); err != nil {
		return nil, err
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	if s.secrets[in.Name] != nil {
		return nil, Error(http.StatusBadRequest, "ResourceExistsException", fmt.Sprintf("The operation failed because the secret %s already exists.", in.Name))
	}
	sec := &secret{name: in.Name}
	s.secrets[in.Name] = sec
	version := sec.add(in.secretValue, in.token(), s.now(), nil)
	return map[string]any{"ARN": SecretARN(in.Name), "Name": in.Name, "VersionId": version.id}, nil
}

func (s *Server) putSecretValue(in struct {
	SecretID      string `json:"SecretId"`
	VersionStages []string
	secretValue
},
) (any, *APIError) {
	sec, err := s.readableSecret(in.SecretID)
	if err != nil {
		return nil, err
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	id := in.token()
	version := sec.at(id, "")
	switch {
	case version == nil:
		version = sec.add(in.secretValue, id, s.now(), in.VersionStages)
	case !version.has(in.secretValue):
		return nil, Error(http.StatusBadRequest, "ResourceExistsException", fmt.Sprintf("A resource with the ID %s already exists with different content.", id))
	}
	return map[string]any{"ARN": SecretARN(sec.name), "Name": sec.name, "VersionId": version.id, "VersionStages": version.stages}, nil
}

func (v *secretVersion) has(value secretValue) bool {
	if v.text == nil || value.SecretString == nil {
		return v.text == value.SecretString && slices.Equal(v.binary, value.SecretBinary)
	}
	return *v.text == *value.SecretString
}

type secretOutput struct {
	ARN, Name     string
	VersionID     string `json:"VersionId"`
	VersionStages []string
	CreatedDate   float64
	SecretString  *string `json:",omitempty"`
	SecretBinary  []byte  `json:",omitempty"`
}

func (s *Server) getSecretValue(in struct {
	SecretID     string `json:"SecretId"`
	VersionID    string `json:"VersionId"`
	VersionStage string
},
) (any, *APIError) {
	var v violations
	v.length(in.SecretID, "secretId", 1, 2048)
	if in.VersionID != "" {
		v.length(in.VersionID, "versionId", 32, 64)
	}
	if err := v.err(); err != nil {
		return nil, err
	}
	return s.readSecret(in.SecretID, in.VersionID, in.VersionStage)
}

func (s *Server) readableSecret(id string) (*secret, *APIError) {
	sec := s.findSecret(id)
	switch {
	case sec == nil:
		return nil, Error(http.StatusBadRequest, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
	case sec.failure != nil:
		return nil, sec.failure
	case sec.deleted:
		return nil, Error(http.StatusBadRequest, "InvalidRequestException", "You can't perform this operation on the secret because it was marked for deletion.")
	}
	return sec, nil
}

func (s *Server) readSecret(id, versionID, stage string) (any, *APIError) {
	sec, err := s.readableSecret(id)
	if err != nil {
		return nil, err
	}
	label := "VersionId: " + versionID
	if versionID == "" && stage == "" {
		stage = currentStage
	}
	if versionID == "" {
		label = "staging label: " + stage
	}
	version := sec.at(versionID, stage)
	if version == nil && versionID != "" && sec.at(versionID, "") != nil {
		return nil, Error(http.StatusBadRequest, "InvalidRequestException", "You provided a VersionStage that is not associated to the provided VersionId.")
	}
	if version == nil {
		return nil, Error(http.StatusBadRequest, "ResourceNotFoundException", "Secrets Manager can't find the specified secret value for "+label)
	}
	return secretOutput{
		ARN: SecretARN(sec.name), Name: sec.name, VersionID: version.id, VersionStages: slices.Clone(version.stages),
		CreatedDate: epoch(version.created), SecretString: version.text, SecretBinary: version.binary,
	}, nil
}

func (s *Server) batchGetSecretValue(in struct {
	SecretIDList []string `json:"SecretIdList"`
	Filters      []any
	MaxResults   *int
},
) (any, *APIError) {
	var v violations
	v.constraint(in.SecretIDList == nil || len(in.SecretIDList) >= 1, in.SecretIDList, "secretIdList", "have length greater than or equal to 1")
	v.constraint(len(in.SecretIDList) <= maxBatch, in.SecretIDList, "secretIdList", "have length less than or equal to 20")
	if err := v.err(); err != nil {
		return nil, err
	}
	switch {
	case in.SecretIDList != nil && in.Filters != nil:
		return nil, Error(http.StatusBadRequest, "InvalidParameterException", "Either 'SecretIdList' or 'Filters' must be provided, but not both.")
	case in.SecretIDList == nil && in.Filters == nil:
		return nil, Error(http.StatusBadRequest, "InvalidParameterException", "Either 'SecretIdList' or 'Filters' must be provided.")
	case in.SecretIDList != nil && in.MaxResults != nil:
		return nil, Error(http.StatusBadRequest, "InvalidParameterException", "'Filters' not specified. 'Filters' must also be specified when 'MaxResults' is provided.")
	case in.Filters != nil:
		return nil, nodeRole.mayNot("secretsmanager:ListSecrets", "*")
	}
	values, errs := []any{}, []any{}
	for _, id := range in.SecretIDList {
		value, err := s.readOfBatch(id)
		if err != nil {
			errs = append(errs, map[string]string{"SecretId": id, "ErrorCode": err.Code, "Message": err.Message})
			continue
		}
		values = append(values, value)
	}
	return map[string]any{"SecretValues": values, "Errors": errs}, nil
}

// readOfBatch reads a secret as somebody who needs the permission for it alone too.
func (s *Server) readOfBatch(id string) (any, *APIError) {
	const action = "secretsmanager:GetSecretValue"
	if secret := s.secretARN(id); s.denied(action, secret) {
		return nil, nodeRole.mayNot(action, secret)
	}
	return s.readSecret(id, "", "")
}
