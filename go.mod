module github.com/soe-agent/soe-agent

go 1.25.0

// The clients of ssm and secretsmanager stay below v1.80.0 and v1.50.0. From there on they build descriptions
// ("schemas") of all operations of the service when a program starts: 0.9 MiB more of binary, and 2.7 MiB more of
// memory in every run, that of "soe-agent version" too. The agent calls a dozen of those operations. A fix that
// it needs is a reason to give that up. TestNoClientDescribesAllOfItsServiceAtStart notices when it happens by the way.
require (
	github.com/BurntSushi/toml v1.6.0
	github.com/aws/aws-sdk-go-v2 v1.47.6
	github.com/aws/aws-sdk-go-v2/credentials v1.20.14
	github.com/aws/aws-sdk-go-v2/feature/ec2/imds v1.20.6
	github.com/aws/aws-sdk-go-v2/service/secretsmanager v1.49.0 // pinned, see above
	github.com/aws/aws-sdk-go-v2/service/ssm v1.79.3 // pinned, see above
	github.com/aws/smithy-go v1.28.8
	github.com/cenkalti/backoff/v4 v4.3.0
	github.com/coreos/go-systemd/v22 v22.7.0
	github.com/cpuguy83/go-md2man/v2 v2.0.6
	github.com/godbus/dbus/v5 v5.2.4
	github.com/google/go-cmp v0.7.0
	github.com/joshdk/go-junit v1.0.0
	github.com/rogpeppe/go-internal v1.16.0
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3
	github.com/spf13/cobra v1.10.2
	github.com/spf13/pflag v1.0.9
	golang.org/x/net v0.49.0
	golang.org/x/sys v0.40.0
)

require (
	github.com/aws/aws-sdk-go-v2/internal/configsources v1.5.9 // indirect
	github.com/aws/aws-sdk-go-v2/internal/endpoints/v2 v2.8.9 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/russross/blackfriday/v2 v2.1.0 // indirect
	go.yaml.in/yaml/v3 v3.0.4 // indirect
	golang.org/x/text v0.33.0 // indirect
	golang.org/x/tools v0.40.0 // indirect
)
