package awsfake

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Activate leaves credentials on the machine below root as a hybrid activation has amazon-ssm-agent do. They are
// good until they expire as far as that agent says; what a Server accepts is another matter.
func Activate(root string, c aws.Credentials, expires time.Time) error {
	identity, err := json.Marshal(map[string]any{"ShareFile": "/root/.aws/credentials", "CredentialsExpiresAt": expires})
	shared := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\naws_session_token = %s\n",
		c.AccessKeyID, c.SecretAccessKey, c.SessionToken)
	return errors.Join(err,
		leave(filepath.Join(root, "var/lib/amazon/ssm/runtimeconfig/identity_config.json"), identity),
		leave(filepath.Join(root, "root/.aws/credentials"), []byte(shared)))
}

func leave(name string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, content, 0o600)
}
