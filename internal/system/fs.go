package system

import (
	"context"
	"io/fs"
	"path"
	"time"

	"github.com/soe-agent/soe-agent/internal/public"
)

// FS is the machine's file system. Names are absolute, below the system's root;
// no symbolic link leads out of it: absolute links are followed from the root, as in a
// chroot. None is followed that others than root may turn: the error is ErrLink then,
// of reads and of changes. Errors say what could not be done and wrap those of the
// operating system, so that errors.Is finds fs.ErrNotExist.
//
// Who needs one part of it asks for that part, and who wraps or plays one replaces it.
type FS struct {
	FileReader
	FileSearcher
	FileWriter
	FileAppender
	Attributes
	Homes
}

// A FileReader says what is there.
type FileReader interface {
	// ReadFile returns a regular file's content, 64 MiB at the most.
	ReadFile(name string) ([]byte, error)
	// Stat describes what is at name itself; it does not follow a link there.
	Stat(name string) (Info, error)
	// Inspect is Stat and, of a regular file, ReadFile in one: what it describes is
	// what it has read. It alone tells of an ACL.
	Inspect(name string) (content []byte, info Info, err error)
	// ReadDir returns the names in a directory, sorted by bytes.
	ReadDir(name string) ([]string, error)
	// Readlink returns where the symbolic link at name points.
	Readlink(name string) (string, error)
}

// A FileSearcher goes through many files.
type FileSearcher interface {
	// Entries describes what is in a directory, by name: links themselves and not what
	// they lead to, access control lists left out. It opens nothing that is there.
	Entries(dir string) (map[string]Info, error)
	// Survey goes through all files below a directory, and returns what it has not looked
	// at. It ends with ctx, and says where. A directory that is not there has no files.
	Survey(ctx context.Context, s Survey) []Unseen
}

// A FileWriter makes files, replaces them and takes them away.
type FileWriter interface {
	// WriteFile makes name a regular file with this content and these attributes.
	// Whoever reads it, and whoever finds it after a crash, sees the old or the
	// new file whole. Missing parent directories are made, with mode 0755. It
	// refuses to replace anything but a regular file, and every protected path.
	WriteFile(name string, content []byte, attr Attr) error
	// SetAttr changes owner and mode of a regular file or directory. A file has no
	// ACL afterwards, as none has that WriteFile makes: the mode says who may do what.
	// The error is ErrNames for a file that has another name too where others than
	// root may have made this one.
	SetAttr(name string, attr Attr) error
	// Symlink makes name a symbolic link to target, replacing a link or a regular
	// file at once.
	Symlink(target, name string) error
	// MkdirAll makes a directory with mode perm and those above it with mode 0755,
	// all root's own. What is there already is left as it is.
	MkdirAll(name string, perm fs.FileMode) error
	// Remove removes a file, a link or an empty directory. What is not there is
	// removed already.
	Remove(name string) error
}

// An FileAppender adds to files of the agent's own.
type FileAppender interface {
	// AppendFile adds to the end of a file. It survives the death of the agent; that of
	// the machine only after a Sync.
	AppendFile(name string, content []byte) error
	// Sync makes what was appended to a file last.
	Sync(name string) error
}

// Attributes is what is done to files of which somebody else keeps the content.
type Attributes interface {
	// Describe is Inspect without the content, however large that is.
	Describe(name string) (Info, error)
	// ChangeAttr is SetAttr of what has been described, for who remembers itself what
	// that was: nothing else is kept of it. It refuses what is no longer as described, and,
	// as ErrNames, every file that has another name too, whoever has given it that.
	ChangeAttr(name string, described Info, attr Attr) error
}

// Homes is what is done to what people own.
type Homes interface {
	// ReadPersonal returns a small regular file in the home of a person, who has this uid.
	// Nothing there can be relied on, so no link is followed, nothing is waited for, and
	// nothing is looked at on file systems where a look may hang. The error is
	// fs.ErrNotExist only if there is no such file.
	ReadPersonal(home string, uid int, name string) ([]byte, error)
	// MoveDir gives a directory another name, in one step, with all that is in it. Nothing
	// is replaced: the error wraps fs.ErrExist where something has that name. Nothing is
	// copied: it wraps ErrOtherFS where the name is on another file system.
	MoveDir(from, to string) error
	// Reown gives what is below a directory and belongs to some ids to others, what
	// is on protected paths too: it would fall to whoever gets the old id. Links
	// are changed and not followed, other file systems are not entered. What cannot
	// be changed is in Failed; the error is that of ctx or of Dir. Set-id bits and
	// capabilities of a file are lost, as the kernel has it; nothing is kept.
	Reown(ctx context.Context, r Reown) (Reowned, error)
}

// fsOf is all of it by one door.
func fsOf(d *disk) FS { return FS{d, d, d, d, d, d} }

// Attr is who owns a file and what they may do.
type Attr struct {
	Mode fs.FileMode // permission bits, setuid, setgid and sticky as in chmod(2): 07777
	UID  int         // -1, to be set: the agent's own for a new file, and unchanged for one that is there
	GID  int
}

// Info describes a file.
type Info struct {
	Attr
	Type    fs.FileMode // as fs.FileMode.Type
	Size    int64
	ModTime time.Time
	// Changed is when content, owner, mode or name last changed: the kernel's own
	// time, which nobody sets.
	Changed time.Time
	Inode   uint64
	ACL     bool // it has an access control list, by which more may be allowed or denied than by its mode (acl(5))
}

// IsRegular says whether it is a regular file.
func (i Info) IsRegular() bool { return i.Type == 0 }

// IsDir says whether it is a directory.
func (i Info) IsDir() bool { return i.Type&fs.ModeDir != 0 }

// A BackupStore is told of each file before the door replaces, removes or makes it,
// and keeps what would be lost. The agent's own state is not its business.
type BackupStore interface {
	// Backup is called before the change. old is nil when there is nothing at name.
	// An error keeps the change from happening.
	Backup(name string, old *Original) error
}

// Original is a file as it was.
type Original struct {
	Content []byte // of a regular file
	Link    string // target of a symbolic link
	Info    Info
}

// MayBeReadByAll says whether everybody may read a file. One that cannot be told of
// nobody may.
func MayBeReadByAll(files FileReader, name string) bool {
	info, err := files.Stat(name)
	return err == nil && info.IsRegular() && !info.ACL && public.May(info.Mode) && ReachedByAll(files, name)
}

// ReachedByAll says whether everybody may go through all directories on the way to a
// file. One that cannot be told of lets nobody through.
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
