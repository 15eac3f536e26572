// Package awscontract holds test/awsfake, and the agent itself, to what this project did not write: AWS's own service
// models in Debian's python3-botocore, and the emulator moto. What the agent and the publisher do is played at both
// endpoints, and where moto is known to differ from what AWS documents, the scenario says so. The tests need what
// test/setup.sh and test/moto.sh prepare, and fail without it; so they are run by make test, not by make check.
package awscontract
