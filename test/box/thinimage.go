package box

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"time"
)

// Names and paths in a ThinImage.
const (
	DesktopUser  = "user"   // UID 1000, who may become root through sudo and polkit, as AWS sets it up
	DomainAdmin  = "dadmin" // a member of the group domain-admins, which AWS's own sudoers file allows to become root
	UserPassword = "thin"   // password of both

	PCoIPConf    = "/etc/pcoip-agent/pcoip-agent.conf"
	PCoIPService = "pcoip.service"
)

// thinImageFiles are modelled on an Amazon Linux 2 WorkSpace as its user gets it.
var thinImageFiles = map[string]File{
	// The number sign does not begin a comment here: this is a grant to UID 1000.
	"/etc/sudoers.d/01-ws-admin-user": {Content: "#1000 ALL=(ALL:ALL) ALL\n", Mode: 0o440},
	"/etc/sudoers.d/00-domain-admins": {Content: "%domain-admins ALL=(ALL) ALL\n", Mode: 0o440},
	"/etc/polkit-1/rules.d/10-ws-admin.rules": {Content: `polkit.addAdminRule(function(action, subject) {
    return ["unix-user:user"];
});
`},
	PCoIPConf: {Content: `# PCoIP agent configuration
#
# A line that begins with # is a comment; the agent's default holds.

pcoip.desktop_session = mate
#pcoip.minimum_image_quality = 100
pcoip.license_server_path = /opt/pcoip/license

# 0: off, 1: both ways, 2: to the host only, 3: to the client only
pcoip.server_clipboard_state = 1
`},
	"/usr/lib/systemd/system/" + PCoIPService: {Content: `[Unit]
Description=PCoIP agent

[Service]
ExecStart=/bin/sleep infinity

[Install]
WantedBy=multi-user.target
`},
}

// thinImageScript runs in a chroot. The hash is that of UserPassword.
const thinImageScript = `set -e
hash='$6$thinimage0$Pto28M3kXa9Kd2K1gDy4Qwrmfn3mgPA.iabhau5cV84hfPPJPLGxdduLIvATkfcRn8rq/WgIgjXLJP8eZpzuc0'
groupadd --system wheel
groupadd --gid 5000 domain-admins
useradd --uid 1000 --create-home --shell /bin/bash --groups sudo --password "$hash" user
useradd --uid 1001 --create-home --shell /bin/bash --groups wheel ec2-user
useradd --uid 5001 --create-home --shell /bin/bash --groups domain-admins --password "$hash" dadmin
ln -s /usr/lib/systemd/system/pcoip.service /etc/systemd/system/multi-user.target.wants/pcoip.service
`

// ThinImage makes the box look like a WorkSpace of a thin image: a desktop user whom AWS has made administrator
// in sudo and polkit, the domain's administrators, the PCoIP agent's configuration, and a running PCoIP agent.
func ThinImage() Option {
	return func(c *Config) {
		WithFiles(thinImageFiles)(c)
		WithSetup(func(root string) error {
			if out, err := exec.Command("chroot", root, "sh", "-c", thinImageScript).CombinedOutput(); err != nil {
				return fmt.Errorf("cannot make the users of a thin image: %w: %s", err, out)
			}
			return nil
		})(c)
	}
}

// Activation is what amazon-ssm-agent writes on a machine that a hybrid activation made a managed
// node.
type Activation struct {
	NodeID, Region                             string
	AccessKeyID, SecretAccessKey, SessionToken string
	RetrievedAt, ExpiresAt                     time.Time
}

// Files returns the files of the activation. With WithFiles the machine has them from the start;
// with Box.WriteFiles they arrive later, as on a real WorkSpace.
func (a Activation) Files() map[string]File {
	registration := toJSON(map[string]string{"ManagedInstanceID": a.NodeID, "Region": a.Region})
	identity := toJSON(map[string]string{
		"SchemaVersion": "1.1", "InstanceId": a.NodeID, "IdentityType": "OnPrem",
		"ShareFile": "/root/.aws/credentials", "ShareProfile": "", "CredentialSource": "SSM",
		"CredentialsRetrievedAt": a.RetrievedAt.UTC().Format(time.RFC3339Nano),
		"CredentialsExpiresAt":   a.ExpiresAt.UTC().Format(time.RFC3339Nano),
	})
	credentials := fmt.Sprintf("[default]\naws_access_key_id     = %s\naws_secret_access_key = %s\naws_session_token     = %s\n",
		a.AccessKeyID, a.SecretAccessKey, a.SessionToken)
	return map[string]File{
		"/var/lib/amazon/ssm/registration":                       {Content: registration, Mode: 0o600},
		"/var/lib/amazon/ssm/runtimeconfig/identity_config.json": {Content: identity, Mode: 0o600},
		"/root/.aws/credentials":                                 {Content: credentials, Mode: 0o600},
	}
}

func toJSON(fields map[string]string) string {
	text, err := json.Marshal(fields)
	if err != nil {
		panic(err) // maps of strings can always be marshalled
	}
	return string(text)
}
