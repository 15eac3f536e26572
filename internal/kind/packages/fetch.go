package packages

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/system"
)

const (
	fetchTimeout = 10 * time.Second
	maxKeySize   = 64 << 10
)

// fetchKey gets a key from a file:///, https:// or http:// URL. How it comes does
// not matter, for the fingerprint decides. Errors do not show the URL, which may
// hold a password.
func fetchKey(ctx context.Context, files system.FS, from string) ([]byte, error) {
	if name, found := strings.CutPrefix(from, "file://"); found {
		return files.ReadFile(name)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, errors.New("its URL cannot be understood")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		var withURL *url.Error
		if errors.As(err, &withURL) {
			err = withURL.Err
		}
		return nil, fmt.Errorf("%s does not give it: %w", request.URL.Hostname(), err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s does not give it: %s", request.URL.Hostname(), response.Status)
	}
	content, err := io.ReadAll(io.LimitReader(response.Body, maxKeySize+1))
	if err != nil {
		return nil, fmt.Errorf("%s does not give it: %w", request.URL.Hostname(), err)
	}
	if len(content) > maxKeySize {
		return nil, fmt.Errorf("it is larger than %d KiB", maxKeySize>>10)
	}
	return content, nil
}
