package packages

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/own"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

// filesDir holds the files of packages while they are installed. Only root can enter it.
const filesDir = own.StateDir + "/packages"

const (
	fileTimeout = 30 * time.Minute
	fileChunk   = 1 << 20
	maxFile     = 2 << 30
)

// fetchFiles downloads the packages that the policy names by URL, and makes their tasks install the
// downloaded file. A package whose file cannot be had, or does not match the policy, fails and is
// left out of the result.
func (m *mending) fetchFiles(ctx context.Context, tasks []task) []task {
	var good []task
	for _, t := range tasks {
		if t.Spec.URL != "" && t.verb != "remove" {
			file := path.Join(filesDir, t.ID.Name()+".rpm")
			err := m.fetchFile(ctx, t.Spec, file)
			if err == nil {
				err = m.holdsPackage(ctx, t.Want, file)
			}
			if err != nil {
				m.failed[t.ID] = errors.Join(t.cannot(err), m.system.FS.Remove(file))
				continue
			}
			t.line = t.verb + " " + file
		}
		good = append(good, t)
	}
	return good
}

// fetchFile downloads a file in chunks, because it may be larger than the agent's memory limit. It
// returns an error if the file does not have the wanted digest; the caller then removes it.
func (m *mending) fetchFile(ctx context.Context, want policy.Package, file string) error {
	if err := m.system.FS.Remove(file); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	content, err := m.open(ctx, want.URL)
	if err != nil {
		return err
	}
	defer content.Close()
	sum := sha256.New()
	if err := m.store(file, io.LimitReader(content, maxFile), sum); err != nil {
		return fmt.Errorf("cannot download its file: %w", err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); !strings.EqualFold(got, want.SHA256) {
		return public.Error(fmt.Errorf("its file has the SHA-256 %s, and the policy says %s", got, want.SHA256))
	}
	return nil
}

// open starts to read from a URL. Errors do not show the URL.
func (m *mending) open(ctx context.Context, from string) (io.ReadCloser, error) {
	if name, found := strings.CutPrefix(from, "file://"); found {
		content, err := m.system.FS.ReadFile(name)
		return io.NopCloser(strings.NewReader(string(content))), err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, errors.New("the URL of its file cannot be understood")
	}
	response, err := http.DefaultClient.Do(request)
	if withURL := (*url.Error)(nil); errors.As(err, &withURL) {
		err = withURL.Err
	}
	if err != nil {
		return nil, fmt.Errorf("cannot get its file from %s: %w", request.URL.Hostname(), err)
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return nil, fmt.Errorf("cannot get its file from %s: %s", request.URL.Hostname(), response.Status)
	}
	return response.Body, nil
}

// store appends the content to a file and feeds it to the digest.
func (m *mending) store(file string, content io.Reader, sum hash.Hash) error {
	chunk := make([]byte, fileChunk)
	for {
		n, err := io.ReadFull(content, chunk)
		if n > 0 {
			sum.Write(chunk[:n])
			if err := m.system.FS.AppendFile(file, chunk[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil // a truncated file has another digest
		case err != nil:
			return err
		}
	}
}

// holdsPackage returns an error if the file does not contain the package that the policy names.
func (m *mending) holdsPackage(ctx context.Context, want policy.Want[policy.Package], file string) error {
	out, err := m.system.Runner.Run(ctx, system.Command{
		Argv: []string{"rpm", "-qp", "--nosignature", "--qf", `%{NAME}\t%{EPOCHNUM}\t%{VERSION}\t%{RELEASE}\t%{ARCH}\n`, file}, ReadOnly: true,
	})
	if err != nil {
		return err
	}
	fields := strings.Split(strings.TrimSpace(string(out.Stdout)), "\t")
	if out.ExitCode != 0 || len(fields) != 5 {
		return fmt.Errorf("its file is no package: %s", out.LastLine())
	}
	is := label{fields[0], fields[4]}
	version := evr{fields[1], fields[2], fields[3]}
	if !is.covers(want.ID.Name()) || want.Spec.Version() != "" && compareEVR(parseEVR(want.Spec.Version()), version) != 0 {
		return public.Error(fmt.Errorf("its file holds %s in the version %s", is, version))
	}
	return nil
}

// forgetFiles removes the downloaded files.
func (m *mending) forgetFiles(wants []policy.Want[policy.Package]) (err error) {
	for _, want := range wants {
		if want.Spec.URL != "" {
			err = errors.Join(err, m.system.FS.Remove(path.Join(filesDir, want.ID.Name()+".rpm")))
		}
	}
	return err
}
