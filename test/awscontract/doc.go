// Package awscontract holds test/awsfake to what this project did not write: AWS's own service models in
// Debian's python3-botocore, and the emulator moto. The tests need what test/setup.sh and test/moto.sh
// prepare, and fail without it; so they are run by make test, not by make check.
package awscontract
