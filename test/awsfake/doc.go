// Package awsfake is an AWS endpoint on loopback for tests: Systems Manager (Parameter Store and
// Compliance) and Secrets Manager, as far as the agent uses them, which throttles, fails and lies on demand.
//
//	aws := awsfake.New(t)
//	aws.PutParameter("/soe/prod/syslog/host", "logs.example.com")
//	aws.Fail("GetParameter", 2, awsfake.Throttled)
//	client := ssm.New(ssm.Options{BaseEndpoint: &aws.URL, Region: awsfake.Region, Credentials: …})
//
// It speaks the JSON 1.1 protocol of the services, verifies the Signature Version 4 of every request,
// and keeps their limits: what it accepts, AWS accepts as far as is documented. Where a limit is not
// documented but was seen in the field, the code says so. Nobody but the tests decides what it answers:
// it has no quota of its own, and no clock but the host's and SetClockSkew.
//
// A managed node's standard role, AmazonSSMManagedInstanceCore, does not allow GetParametersByPath, and
// BatchGetSecretValue by filter needs ListSecrets, which a node's role should not have: both are denied.
//
// All methods may be called at any time, by any goroutine.
package awsfake
