// Package rpmrepo is the signed RPM repository that boxes install from.
//
// It holds forty harmless packages in two versions and one for each way in which a package can
// go wrong; build.sh lists them. It is built once by test/setup.sh, with keys of its own, and is
// reached from a box as a folder:
//
//	repo, err := rpmrepo.Open()
//	…
//	b := box.New(t, box.WithBind(repo.Dir, rpmrepo.MountPoint))
//
// The policy under test brings the repository's file and key; a box knows neither.
package rpmrepo

import (
	_ "embed"
	"os"
	"path/filepath"
	"strings"

	"github.com/soe-agent/soe-agent/test/internal/cache"
)

const (
	// MountPoint is where a box is expected to have Repo.Dir.
	MountPoint = "/repo"
	// BaseURL and KeyURL are what a repository file inside such a box says.
	BaseURL = "file://" + MountPoint
	KeyURL  = BaseURL + "/" + keyName
	// ForeignKeyURL is a key that signed only soe-wrongkey.
	ForeignKeyURL = BaseURL + "/" + foreignKeyName

	keyName        = "RPM-GPG-KEY-soe-test"
	foreignKeyName = "RPM-GPG-KEY-foreign"
)

//go:embed build.sh
var recipe []byte

// Repo says where the repository is on the host. It is shared by all tests and read-only.
type Repo struct {
	Dir            string // with repodata, so that it can be served over HTTP too
	KeyPath        string // the armoured public key that signed it
	ForeignKeyPath string // the one that signed soe-wrongkey
	Fingerprint    string // of KeyPath, 40 hexadecimal digits, upper case
}

// Open finds the repository that test/setup.sh built.
func Open() (Repo, error) {
	dir, err := cache.Find("rpmrepo", recipe)
	if err != nil {
		return Repo{}, err
	}
	fingerprint, err := os.ReadFile(filepath.Join(dir, "fingerprint"))
	if err != nil {
		return Repo{}, err
	}
	return Repo{
		Dir:            dir,
		KeyPath:        filepath.Join(dir, keyName),
		ForeignKeyPath: filepath.Join(dir, foreignKeyName),
		Fingerprint:    strings.TrimSpace(string(fingerprint)),
	}, nil
}

// RepoFile is a file for /etc/yum.repos.d that makes the repository known to dnf, with its signatures checked.
func RepoFile() string {
	return "[soe-test]\nname=Test packages\nbaseurl=" + BaseURL + "\nenabled=1\ngpgcheck=1\ngpgkey=" + KeyURL + "\nmetadata_expire=0\n"
}
