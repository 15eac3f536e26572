package system

import (
	"context"
	"io/fs"
	"path"
	"time"

	"github.com/soe-agent/soe-agent/internal/public"
)

// FS is the machine's file system. Names are absolute, below the system's root. No symbolic link
// leads out of it: absolute links are resolved from the root, as in a chroot. A link that somebody
// other than root could have made or changed is never followed, neither to read nor to write: the
// error then wraps ErrLink. Errors say what could not be done to which file, and wrap those of the
// operating system, so that errors.Is finds fs.ErrNotExist.
//
// Code that needs one part takes that interface, and a test or a wrapper replaces one part.
type FS struct {
	FileReader
	FileSearcher
	FileWriter
	FileAppender
	Attributes
	Homes
}

// A FileReader reads files and directories.
type FileReader interface {
	// ReadFile returns a regular file's content, up to 64 MiB. Of anything else the error wraps
	// ErrNotRegular, or ErrLarge.
	ReadFile(name string) ([]byte, error)
	// Stat describes what is at name itself; it does not follow a link there.
	Stat(name string) (Info, error)
	// Inspect is Stat and, for a regular file, ReadFile of the same open file. Of these methods
	// only Inspect tells whether there is an ACL.
	Inspect(name string) (content []byte, info Info, err error)
	// ReadDir returns the names in a directory, sorted by bytes.
	ReadDir(name string) ([]string, error)
	// Readlink returns where the symbolic link at name points.
	Readlink(name string) (string, error)
}

// A FileSearcher reads many files or entries at once.
type FileSearcher interface {
	// Entries describes what is in a directory, by name: links themselves and not their targets,
	// and without access control lists. It opens no entry.
	Entries(dir string) (map[string]Info, error)
	// Survey reads all files below a directory, and returns what it could not read. It ends when
	// ctx is done, and says where. A directory that does not exist has no files.
	Survey(ctx context.Context, s Survey) []Unseen
	// Walk describes everything on the local disks with low priority. It ends when ctx is done, and
	// says where to continue. The error is about all of it, such as ErrWalking.
	Walk(ctx context.Context, w Walk) (Walked, error)
}

// A FileWriter creates, replaces and removes files.
type FileWriter interface {
	// WriteFile makes name a regular file with this content and these attributes. Readers, also
	// after a crash, see the old or the new file and never a part. Missing parent directories are
	// made, with mode 0755. It refuses to replace anything but a regular file, and every protected
	// path, but for contents of /etc/fstab that differ as mounts.OnlyOptions allows. In the place of
	// one of the agent's own files it replaces whatever is there; a directory is kept, as
	// NAME.damaged.
	WriteFile(name string, content []byte, attr Attr) error
	// SetAttr changes owner and mode of a regular file or directory, and removes its ACL, so that
	// the mode alone says who may do what; a file that WriteFile makes has no ACL either. The
	// error wraps ErrNames for a file with several names where somebody other than root may have
	// made this one.
	SetAttr(name string, attr Attr) error
	// Symlink makes name a symbolic link to target. It replaces a link or a regular file in one
	// step.
	Symlink(target, name string) error
	// MkdirAll makes a directory with mode perm, and missing ones above it with mode 0755, all
	// owned by root. Existing directories are left as they are.
	MkdirAll(name string, perm fs.FileMode) error
	// Remove removes a file, a link or an empty directory. It is no error if name does not exist. It
	// refuses every protected path, but for an /etc/fstab that says nothing.
	Remove(name string) error
}

// A FileAppender appends to the agent's own files.
type FileAppender interface {
	// AppendFile appends to a regular file, and never blocks. The appended content survives the agent's death at once, but
	// the machine's only after Sync.
	AppendFile(name string, content []byte) error
	// Sync makes durable what was appended to a file.
	Sync(name string) error
}

// Attributes is access to the owner and mode of files whose content belongs to somebody else.
type Attributes interface {
	// Describe is Inspect without the content, for files of any size.
	Describe(name string) (Info, error)
	// ChangeAttr is SetAttr for a file as Describe returned it. It makes no backup: the caller
	// keeps what was there. It refuses a file that has changed since, and with ErrNames every file
	// that has several names, whoever made them.
	ChangeAttr(name string, described Info, attr Attr) error
}

// Homes is access to people's own files.
type Homes interface {
	// ReadPersonal returns a small regular file in the home of the person with this uid. Nothing
	// there can be relied on, so it follows no link, never waits, and reads nothing on file
	// systems that may hang. The error wraps fs.ErrNotExist only if there is no such file.
	ReadPersonal(home string, uid int, name string) ([]byte, error)
	// DescribeHome describes what is at a home itself, with the same care as ReadPersonal. The
	// error wraps fs.ErrNotExist only if there is nothing.
	DescribeHome(home string) (Info, error)
	// MoveDir renames a directory with all that is in it, in one step. It replaces nothing: the
	// error wraps fs.ErrExist where the new name exists. It copies nothing: the error wraps
	// ErrOtherFS where the new name is on another file system.
	MoveDir(from, to string) error
	// Reown changes the owner of files below a directory that belong to certain ids, on protected
	// paths too: otherwise they would belong to whoever gets the old id. It changes links instead
	// of following them, and does not enter other file systems. Failed lists what could not be
	// changed. The error is that of ctx or of opening Dir. As always when the owner changes, the
	// kernel clears set-id bits and capabilities of a file.
	Reown(ctx context.Context, r Reown) (Reowned, error)
}

// fsOf returns an FS whose parts are all d.
func fsOf(d *disk) FS { return FS{d, d, d, d, d, d} }

// guardedOf returns the same file system as System.Guarded.
func guardedOf(d *disk) FS {
	g := *d
	g.guarded = true
	return fsOf(&g)
}

// Attr is the owner and mode of a file.
type Attr struct {
	Mode fs.FileMode // permission bits, setuid, setgid and sticky as in chmod(2): 07777
	UID  int         // to set: -1 means the agent's own for a new file, and unchanged for an existing one
	GID  int
}

// Info describes a file.
type Info struct {
	Attr
	Type    fs.FileMode // as fs.FileMode.Type
	Size    int64
	ModTime time.Time
	// Changed is when content, owner, mode or name last changed (ctime). The kernel sets it; no
	// program can.
	Changed time.Time
	Inode   uint64
	ACL     bool // it has an access control list, which may allow or deny more than the mode (acl(5))
}

// IsRegular reports whether it is a regular file.
func (i Info) IsRegular() bool { return i.Type == 0 }

// IsDir reports whether it is a directory.
func (i Info) IsDir() bool { return i.Type&fs.ModeDir != 0 }

// A BackupStore is told of each file before it is replaced, removed or created, and keeps what
// would be lost. Files of the agent's own state are left out.
type BackupStore interface {
	// Backup is called before the change. old is nil when nothing is at name. An error prevents
	// the change.
	Backup(name string, old *Original) error
}

// Original is a file as it was before a change.
type Original struct {
	Content []byte // of a regular file
	Link    string // target of a symbolic link
	Info    Info
}

// MayBeReadByAll reports whether everybody may read a file. It returns false if it cannot tell.
func MayBeReadByAll(files FileReader, name string) bool {
	info, err := files.Stat(name)
	return err == nil && info.IsRegular() && !info.ACL && public.May(info.Mode) && ReachedByAll(files, name)
}

// ReachedByAll reports whether everybody may enter all directories above a file. It returns false
// if it cannot tell.
func ReachedByAll(files FileReader, name string) bool {
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		info, err := files.Stat(dir)
		if err != nil || !info.IsDir() || info.Mode&0o001 == 0 || info.ACL {
			return false
		}
		if dir == path.Dir(dir) {
			return true
		}
	}
}
