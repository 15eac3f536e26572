package system

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Confinement is how a command runs that must not change anything and that the agent's authors
// did not write. It can write to no file system, only to devices; it cannot gain privileges
// (PR_SET_NO_NEW_PRIVS in prctl(2)) and has none of the capabilities that change the machine; and
// it has a process namespace of its own, so that whatever it started ends with it. It may read what
// its user may read, and talk to services. Two sorts of mounts are left as they are: network file
// systems, since touching one whose server is gone would hang, and mounts that the agent cannot
// reach because it is root of a user namespace only.
type Confinement struct {
	UID, GID int
	Groups   []int // supplementary
	// Capabilities are those that root keeps in addition to the ones for reading files.
	Capabilities []int
	// Background makes it run only when nothing else needs the processor or the disk, as far as the
	// kernel's schedulers support that (setpriority(2), ioprio_set(2)).
	Background bool
}

// Priorities of a background command: the lowest for the processor, and for the disk the lowest
// that does not starve (IOPRIO_PRIO_VALUE of the class best-effort, ioprio_set(2)).
const (
	lowestNice    = 19
	lowestDisk    = 2<<13 | 7
	ofThisThread  = 0
	ioprioProcess = 1 // IOPRIO_WHO_PROCESS
)

// toBackground lowers the priority of the calling thread, and of what is started in it.
func toBackground() error {
	if err := unix.Setpriority(unix.PRIO_PROCESS, ofThisThread, lowestNice); err != nil {
		return fmt.Errorf("cannot lower its priority: %w", err)
	}
	return lastAtDisk()
}

// lastAtDisk lowers the priority of the calling thread at the disk.
func lastAtDisk() error {
	if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, ioprioProcess, ofThisThread, lowestDisk); errno != 0 {
		return fmt.Errorf("cannot lower its priority at the disk: %w", errno)
	}
	return nil
}

// readingCapabilities let root read what root normally can (capabilities(7)).
func readingCapabilities() []int {
	return []int{unix.CAP_DAC_READ_SEARCH, unix.CAP_SYS_PTRACE, unix.CAP_SYSLOG}
}

// startConfined starts a command in a thread that has been confined for it and that ends with the
// call, since a thread never gets back what it has given up. The caller calls over when the command
// has ended.
func startConfined(cmd *exec.Cmd, c Confinement) (over func(), err error) {
	over = func() {}
	if os.Geteuid() != 0 {
		return over, errors.New("only root can confine a command")
	}
	cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWPID
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(c.UID), Gid: uint32(c.GID), Groups: wide(c.Groups)}
	started := make(chan error)
	spend(func() {
		bus, err := confineThread(c)
		if bus != nil {
			over = func() { _ = bus.Close() }
			go serveReading(bus)
		}
		if err != nil {
			err = fmt.Errorf("cannot confine it: %w", err)
		} else {
			err = cmd.Start()
			// Until it called execve, the child shared this memory. When it changed its user the
			// kernel set the dumpable flag of that memory to fs.suid_dumpable (proc(5)).
			_ = undumpable() // it cannot fail
		}
		started <- err
	})
	err = <-started
	return over, err
}

func wide(ids []int) []uint32 {
	all := make([]uint32, len(ids))
	for i, id := range ids {
		all[i] = uint32(id)
	}
	return all
}

// confineThread confines the calling thread for a command. For root it returns a filtered bus,
// which the caller serves and closes.
func confineThread(c Confinement) (bus net.Listener, err error) {
	if c.Background {
		if err := toBackground(); err != nil {
			return nil, err
		}
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil, err
	}
	// Mounts made by the machine from now on appear here, and none made here appears there.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return nil, err
	}
	if c.UID == 0 {
		if bus, err = readBus(); err != nil {
			return nil, err
		}
	}
	mounts, err := os.Open("/proc/thread-self/mountinfo")
	if err != nil {
		return bus, err
	}
	defer mounts.Close()
	if err := makeReadOnly(mounts); err != nil {
		return bus, err
	}
	for capability := 0; capability <= unix.CAP_LAST_CAP; capability++ {
		if slices.Contains(readingCapabilities(), capability) || slices.Contains(c.Capabilities, capability) {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(capability), 0, 0, 0)
		if err != nil && !errors.Is(err, unix.EINVAL) { // an older kernel does not know it
			return bus, err
		}
	}
	return bus, unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
}

// longestMount is longer than any line of mountinfo, even for an overlay of many layers.
const longestMount = 1 << 20

// makeReadOnly makes all mounts of mountinfo (proc_pid_mountinfo(5)) read-only.
func makeReadOnly(mountinfo io.Reader) error {
	lines := bufio.NewScanner(mountinfo)
	lines.Buffer(nil, longestMount)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		separator := slices.Index(fields, "-")
		if separator < 6 || separator+1 >= len(fields) || isRemote(fields[separator+1]) {
			continue
		}
		options := strings.Split(fields[5], ",")
		if slices.Contains(options, "ro") {
			continue
		}
		point := mountPoint.Replace(fields[4])
		err := unix.Mount("", point, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|mountFlags(options), "")
		switch {
		case err == nil:
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT): // another mount hides it
		case errors.Is(err, unix.EACCES) && outOfReach(point): // the command cannot reach it either
		default:
			return fmt.Errorf("cannot make %s read-only: %w", point, err)
		}
	}
	if err := lines.Err(); err != nil { // the mounts that follow could be written to
		return fmt.Errorf("cannot tell what is mounted: %w", err)
	}
	return nil
}

// outOfReach reports whether the agent cannot reach a file. The command cannot either, because the
// agent may go wherever the command may. This happens only to root of a user namespace.
func outOfReach(name string) bool {
	return errors.Is(unix.Access(name, unix.F_OK), unix.EACCES)
}

var mountPoint = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

func isRemote(kind string) bool {
	return strings.HasPrefix(kind, "fuse") || slices.Contains([]string{"autofs", "nfs", "nfs4", "cifs", "smb3", "ceph", "9p"}, kind)
}

// mountFlags are the flags that a mount keeps.
func mountFlags(options []string) uintptr {
	var flags uintptr
	for _, option := range options {
		switch option {
		case "nosuid":
			flags |= unix.MS_NOSUID
		case "nodev":
			flags |= unix.MS_NODEV
		case "noexec":
			flags |= unix.MS_NOEXEC
		case "noatime":
			flags |= unix.MS_NOATIME
		case "nodiratime":
			flags |= unix.MS_NODIRATIME
		case "relatime":
			flags |= unix.MS_RELATIME
		}
	}
	return flags
}
