package system

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Writer is a process that changed a file.
type Writer struct {
	PID  int
	Exe  string // the path of its program; empty if the process had ended before it could be read
	Unit string // its systemd unit; empty if unknown
}

// String returns the writer for people: "crond.service (pid 812, /usr/bin/cp)".
func (w Writer) String() string {
	process := "pid " + strconv.Itoa(w.PID)
	if w.Exe != "" {
		process += ", " + w.Exe
	}
	if w.Unit == "" {
		return process
	}
	return w.Unit + " (" + process + ")"
}

// A WriterMonitor tells which processes change files.
type WriterMonitor interface {
	// Monitor calls saw with the name of each changed entry of these directories and the process
	// that changed it, if that is not the agent's and could be identified. It returns when ctx is
	// done, with its error, or when the kernel cannot tell. It costs a little for each change, so
	// it runs only while a resource is contested.
	Monitor(ctx context.Context, dirs []string, saw func(name string, by Writer)) error
}

// noMonitor is the WriterMonitor of a machine that is not running.
type noMonitor struct{}

func (noMonitor) Monitor(context.Context, []string, func(string, Writer)) error {
	return ErrNotRunning
}

// fanotify asks the kernel (fanotify(7)). Since Linux 5.9 it reports the names of entries. Older
// kernels, such as that of Amazon Linux 2, report only which process wrote to which open file.
type fanotify struct{}

const (
	changesByName = unix.FAN_CREATE | unix.FAN_DELETE | unix.FAN_MODIFY | unix.FAN_ATTRIB | unix.FAN_MOVED_TO | unix.FAN_MOVED_FROM |
		unix.FAN_EVENT_ON_CHILD
	changesByFile = unix.FAN_MODIFY | unix.FAN_CLOSE_WRITE | unix.FAN_EVENT_ON_CHILD
)

func (fanotify) Monitor(ctx context.Context, dirs []string, saw func(string, Writer)) error {
	group, names, err := mark(dirs)
	if err != nil {
		return fmt.Errorf("cannot tell who changes files: %w", err)
	}
	defer group.Close()
	defer context.AfterFunc(ctx, func() { group.Close() })()
	own := cgroup(os.Getpid())
	events := make([]byte, 16<<10)
	for {
		n, err := group.Read(events)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("cannot tell who changes files: %w", err)
		}
		for rest := events[:n]; len(rest) >= metadataSize; {
			e, size := parseEvent(rest, names)
			if size == 0 {
				break
			}
			rest = rest[size:]
			by, ok := writer(e.pid, own)
			if e.fd >= 0 {
				e.name, _ = os.Readlink("/proc/self/fd/" + strconv.Itoa(e.fd))
				unix.Close(e.fd)
			}
			if ok && e.name != "" {
				saw(e.name, by)
			}
		}
	}
}

// mark makes a fanotify group for the directories. names maps file handles, by which the kernel
// names directories in events, to directories.
func mark(dirs []string) (group *os.File, names map[string]string, err error) {
	mask, names := uint64(changesByName), map[string]string{}
	const flags = unix.FAN_CLASS_NOTIF | unix.FAN_CLOEXEC | unix.FAN_NONBLOCK
	fd, err := unix.FanotifyInit(flags|unix.FAN_REPORT_DFID_NAME, unix.O_RDONLY|unix.O_CLOEXEC)
	if errors.Is(err, unix.EINVAL) {
		mask = changesByFile
		fd, err = unix.FanotifyInit(flags, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_LARGEFILE)
	}
	if err != nil {
		return nil, nil, err
	}
	group = os.NewFile(uintptr(fd), "fanotify")
	var errs []error
	for _, dir := range dirs {
		if err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD|unix.FAN_MARK_ONLYDIR, mask, unix.AT_FDCWD, dir); err != nil {
			errs = append(errs, fmt.Errorf("in %s: %w", dir, err))
			continue
		}
		// Since Linux 6.5, some file systems have handles only for this purpose.
		for _, flags := range []int{handleForFID, 0} {
			if handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, dir, flags); err == nil {
				names[string(handle.Bytes())] = dir
			}
		}
	}
	if len(errs) == len(dirs) {
		group.Close()
		return nil, nil, errors.Join(errs...)
	}
	return group, names, nil
}

// event is an event of fanotify.
type event struct {
	pid  int
	fd   int    // of the file; -1 if the event has a name instead
	name string // of the entry
}

// Sizes of fanotify's structures, and the type of the record that has a directory and a name.
const (
	metadataSize   = 24
	infoHeaderSize = 4
	fsidSize       = 8
	handleHeader   = 8
	typeDFIDName   = 2
	handleForFID   = 0x200 // AT_HANDLE_FID
)

// parseEvent parses the first event in b. size is 0 when there is no complete one.
func parseEvent(b []byte, names map[string]string) (e event, size int) {
	order := binary.NativeEndian
	size, header := int(order.Uint32(b)), int(order.Uint16(b[6:]))
	if size < metadataSize || size > len(b) || header > size {
		return e, 0
	}
	e.fd, e.pid = int(int32(order.Uint32(b[16:]))), int(int32(order.Uint32(b[20:])))
	for info := b[header:size]; len(info) >= infoHeaderSize; {
		kind, length := info[0], int(order.Uint16(info[2:]))
		if length < infoHeaderSize || length > len(info) {
			break
		}
		record := info[infoHeaderSize:length]
		info = info[length:]
		if kind != typeDFIDName || len(record) < fsidSize+handleHeader {
			continue
		}
		record = record[fsidSize:]
		handle := int(order.Uint32(record))
		if handle > len(record)-handleHeader {
			continue
		}
		dir := names[string(record[handleHeader:handleHeader+handle])]
		base, _, _ := bytes.Cut(record[handleHeader+handle:], []byte{0})
		if dir != "" {
			e.name = path.Join(dir, string(base))
		}
	}
	return e, size
}

// writer describes a process, unless it is the agent's or has gone. It leaves out arguments,
// because they may contain a secret.
func writer(pid int, own string) (Writer, bool) {
	if pid <= 0 || pid == os.Getpid() {
		return Writer{}, false
	}
	group := cgroup(pid)
	w := Writer{PID: pid, Unit: unitOf(group)}
	w.Exe, _ = os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	w.Exe = strings.TrimSuffix(w.Exe, " (deleted)")
	mine := group != "" && group == own && w.Unit != "" || strings.HasPrefix(w.Unit, "soe-agent")
	return w, !mine && (w.Exe != "" || w.Unit != "")
}

// cgroup returns the control group of a process in the hierarchy that systemd uses, of the two that
// there may be (cgroups(7)).
func cgroup(pid int) string {
	content, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	found := ""
	for line := range strings.Lines(string(content)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) == 3 && (fields[1] == "name=systemd" || fields[0] == "0") && len(fields[2]) > len(found) {
			found = fields[2]
		}
	}
	return found
}

// unitOf returns the unit to which a control group belongs.
func unitOf(group string) string {
	for ; group != "/" && group != "." && group != ""; group = path.Dir(group) {
		if base := path.Base(group); strings.HasSuffix(base, ".service") || strings.HasSuffix(base, ".scope") {
			return base
		}
	}
	return ""
}
