// Package awsfake is an AWS endpoint on loopback, or in memory, for tests: Systems Manager (Parameter Store,
// Compliance, Inventory, tags) and Secrets Manager, as far as the agent uses them, which throttles, fails and lies on demand.
//
//	aws := awsfake.New(t)
//	aws.PutParameter("/soe/prod/syslog/host", "logs.example.com")
//	aws.Fail("GetParameter", 2, awsfake.Throttled)
//	client := ssm.New(ssm.Options{BaseEndpoint: &aws.URL, Region: awsfake.Region, Credentials: …})
//
// It speaks the JSON 1.1 protocol of the services, verifies the Signature Version 4 of every request,
// and keeps their limits: what it accepts, AWS accepts as far as is documented. Where a limit is not
// documented but was seen in the field, the code says so. Nobody but the tests decides what it answers:
// it has no quota but that of SetQuota, and no clock but the host's and SetClockSkew.
//
// It knows two roles. A managed node's, DefaultCredentials and all others that are set, is AWS's standard role
// AmazonSSMManagedInstanceCore with the node's tags and secrets added: it does not allow GetParametersByPath,
// nor to write. BatchGetSecretValue by filter needs ListSecrets, which a node's role should not have, and is
// denied. PublisherCredentials may do everything.
//
// In virtual time, a bubble of testing/synctest, there are no sockets: InMemory makes a server without one, and
// RoundTripper is the way to it.
//
//	synctest.Test(t, func(t *testing.T) {
//		aws := awsfake.InMemory()
//		aws.SetQuota(40, 40)
//		client := ssm.New(ssm.Options{HTTPClient: &http.Client{Transport: aws.RoundTripper()}, BaseEndpoint: &aws.URL, …})
//
// All methods may be called at any time, by any goroutine.
package awsfake
