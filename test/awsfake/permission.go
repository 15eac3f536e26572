package awsfake

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// A role is what somebody with credentials may do.
type role struct {
	session string   // the end of its ARN
	actions []string // nil: all
}

var (
	// nodeRole is AmazonSSMManagedInstanceCore, as far as the endpoint has its actions, and what an agent
	// needs beyond it: the tags of its own node and the secrets.
	nodeRole = role{session: "SoeNode/mi-0123456789abcdef0", actions: []string{
		"ssm:GetParameter", "ssm:GetParameters", "ssm:PutComplianceItems", "ssm:PutInventory", "ssm:ListTagsForResource",
		"secretsmanager:GetSecretValue", "secretsmanager:BatchGetSecretValue",
	}}
	publisherRole = role{session: "SoePublisher/ci"}
)

const (
	accessDenied = "AccessDeniedException"
	decryption   = "kms:Decrypt"
	keyARN       = "arn:aws:kms:" + Region + ":" + Account + ":key/1234abcd-12ab-34cd-56ef-1234567890ab"
)

// A denial is of one action, of one resource, or of one action on one resource.
type denial struct{ action, resource string }

// Deny denies an action such as secretsmanager:BatchGetSecretValue to everybody, until Heal.
func (s *Server) Deny(action string) { s.deny(denial{action: action}) }

// DenyParameter denies every call that names a parameter to everybody, until Heal. As with IAM, a call that
// names others too fails as a whole; but who may read its path finds it there (AWS documents both).
func (s *Server) DenyParameter(name string) { s.deny(denial{resource: parameterARN(name)}) }

// DenyDecryption denies the use of a SecureString's key to everybody, until Heal: it can be read encrypted, and
// a call that wants it decrypted fails as a whole. Access to the key of a secret is denied by FailSecret.
func (s *Server) DenyDecryption(name string) { s.deny(denial{decryption, parameterARN(name)}) }

// DenySecret denies every call that names a secret to everybody, until Heal; BatchGetSecretValue reports it
// among its Errors. The secret need not exist.
func (s *Server) DenySecret(name string) { s.deny(denial{resource: SecretARN(name)}) }

func (s *Server) deny(d denial) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denials[d] = true
}

// denied says whether an action on a resource was denied. s.mu is held.
func (s *Server) denied(action, resource string) bool {
	return s.denials[denial{action: action}] || s.denials[denial{resource: resource}] || s.denials[denial{action, resource}]
}

// authorize says what IAM says to a call: every resource that it names must be allowed. s.mu is held.
func (s *Server) authorize(caller role, target string, body []byte) *APIError {
	action := permission(target)
	allowed := caller.actions == nil || slices.Contains(caller.actions, action)
	if allowed && len(s.denials) == 0 {
		return nil
	}
	for _, resource := range s.resources(target, body) {
		if !allowed || s.denied(action, resource) {
			return caller.mayNot(action, resource)
		}
	}
	return nil
}

// permission is the name that IAM has for an action.
func permission(target string) string {
	service, action, _ := strings.Cut(target, ".")
	if service == "AmazonSSM" {
		service = "ssm"
	}
	return service + ":" + action
}

// resources returns the ARNs of what a call names, or * if it names nothing.
func (s *Server) resources(target string, body []byte) []string {
	var in struct {
		Name, Path, ResourceType string
		Names                    []string
		ResourceID               string `json:"ResourceId"`
		InstanceID               string `json:"InstanceId"`
		SecretID                 string `json:"SecretId"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return []string{"*"} // the operation will say what is wrong with it
	}
	var arns []string
	switch {
	case in.ResourceType == parameterResource:
		arns = []string{parameterARN(in.ResourceID)}
	case in.ResourceType != "":
		arns = []string{arn("ssm", "managed-instance/"+in.ResourceID)}
	case in.InstanceID != "":
		arns = []string{arn("ssm", "managed-instance/"+in.InstanceID)}
	case in.SecretID != "":
		arns = []string{s.secretARN(in.SecretID)}
	case strings.HasPrefix(target, "secretsmanager.") && in.Name != "":
		arns = []string{s.secretARN(in.Name)}
	default:
		for _, name := range append(in.Names, in.Name, in.Path) {
			if name != "" {
				arns = append(arns, parameterARN(name))
			}
		}
	}
	if len(arns) == 0 {
		return []string{"*"}
	}
	return arns
}

// secretARN returns the ARN of the secret with that name or ARN, which need not exist.
func (s *Server) secretARN(id string) string {
	if sec := s.findSecret(id); sec != nil {
		return SecretARN(sec.name)
	}
	if strings.HasPrefix(id, "arn:") {
		return id
	}
	return SecretARN(id)
}

// AccessDenied says that a node's role is not allowed an action such as ssm:GetParameter on a resource, an ARN.
func AccessDenied(action, resource string) Fault { return nodeRole.mayNot(action, resource).Fault }

func (r role) mayNot(action, resource string) *APIError {
	return Error(http.StatusBadRequest, accessDenied, fmt.Sprintf(
		"User: arn:aws:sts::%s:assumed-role/%s is not authorized to perform: %s on resource: %s because no identity-based policy allows the %s action",
		Account, r.session, action, resource, action))
}
