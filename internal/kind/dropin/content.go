package dropin

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
)

// checkCertificates requires PEM, with a CA certificate in each block.
func checkCertificates(_ context.Context, c candidate) error {
	if c.content == nil {
		return nil
	}
	rest, found := c.content, false
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" && block.Type != "TRUSTED CERTIFICATE" {
			return errors.New("it holds something other than certificates")
		}
		found = true
		if block.Type == "TRUSTED CERTIFICATE" {
			continue // OpenSSL's own form, which crypto/x509 does not read
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return errors.New("it holds a certificate that cannot be read")
		}
		if certificate.BasicConstraintsValid && !certificate.IsCA {
			return errors.New("it holds a certificate that is not one of an authority")
		}
	}
	if !found {
		return errors.New("it holds no certificate in PEM form")
	}
	return nil
}

func checkJSON(_ context.Context, c candidate) error {
	if c.content == nil {
		return nil
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(c.content, &object) != nil {
		return errors.New("it is not an object in JSON")
	}
	return nil
}
