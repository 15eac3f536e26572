package e2e

import (
	bytes "encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// strangers are the processes of users in the agent's own cgroup. There is to be none,
// in no test and at no moment: whoever is a process's user can stop it, trace it and
// fork from it there. The kernel tells of each change of a user and of each exec on this
// machine, those in boxes too (the process events connector), so that what lives for a
// moment is seen: as long as it takes this process to be scheduled and read /proc.
type strangers struct {
	socket int

	mu   sync.Mutex
	seen []string // "BOX: what"
	lost bool     // events, for want of room
	told sync.Map // functions that are told of each program that is started, by what they belong to
}

const (
	cnIdxProc    = 1
	cnValProc    = 1
	procListen   = 1
	procEventUID = 0x4
	procExec     = 0x2
	room         = 32 << 20 // for events that are not taken yet
)

// watchStrangers begins to watch, until the tests end.
func watchStrangers() (*strangers, error) {
	socket, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_CONNECTOR)
	if err != nil {
		return nil, fmt.Errorf("cannot watch for processes: %w", err)
	}
	err = errors.Join(
		unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room),
		unix.Bind(socket, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: cnIdxProc}),
	)
	// struct nlmsghdr, struct cn_msg, enum proc_cn_mcast_op
	message := make([]byte, 16+20+4)
	order := bytes.NativeEndian
	order.PutUint32(message[0:], uint32(len(message)))
	order.PutUint16(message[4:], unix.NLMSG_DONE)
	order.PutUint32(message[12:], uint32(os.Getpid()))
	order.PutUint32(message[16:], cnIdxProc)
	order.PutUint32(message[20:], cnValProc)
	order.PutUint16(message[32:], 4)
	order.PutUint32(message[36:], procListen)
	if err == nil {
		err = unix.Sendto(socket, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot watch for processes: %w", err), unix.Close(socket))
	}
	s := &strangers{socket: socket}
	go s.watch()
	return s, nil
}

func (s *strangers) watch() {
	runtime.LockOSThread()
	_ = unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -20) // it is only late without
	order := bytes.NativeEndian
	buffer := make([]byte, 4096)
	for {
		n, err := unix.Read(s.socket, buffer)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.ENOBUFS) {
			s.mu.Lock()
			s.lost = true
			s.mu.Unlock()
			continue
		}
		const event = 16 + 20 // struct proc_event: what, cpu, a timestamp, and then the process
		if err != nil || n < event+24 {
			return
		}
		switch order.Uint32(buffer[event:]) {
		case procEventUID: // pid, tgid, ruid, euid
			// Who has no more than the effective user can neither signal nor trace it.
			if ruid := order.Uint32(buffer[event+24:]); ruid != 0 {
				s.look(order.Uint32(buffer[event+20:]), ruid)
			}
		case procExec:
			pid := order.Uint32(buffer[event+20:])
			s.told.Range(func(_, tell any) bool { tell.(func(uint32))(pid); return true })
			if uid, known := realUser(pid); known && uid != 0 {
				s.look(pid, uid)
			}
		}
	}
}

// realUser is the first of the users of a process (proc_pid_status(5)).
func realUser(pid uint32) (uid uint32, known bool) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	_, after, found := strings.Cut(string(status), "\nUid:")
	if !found {
		return 0, false
	}
	_, err = fmt.Sscan(after, &uid)
	return uid, err == nil
}

// look notes a process if it is in an agent's cgroup.
func (s *strangers) look(pid, uid uint32) {
	where, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil || !strings.Contains(string(where), "/soe-agent.service\n") {
		return
	}
	words, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, fmt.Sprintf("user %d runs %q in %s", uid, strings.ReplaceAll(string(words), "\x00", " "), where))
}

// of takes what was seen in a box.
func (s *strangers) of(box string) (seen []string, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var others []string
	for _, one := range s.seen {
		if strings.Contains(one, "/"+box+"/") {
			seen = append(seen, one)
		} else {
			others = append(others, one)
		}
	}
	s.seen = others
	return seen, s.lost
}

// fail fails a test in whose box somebody was in the agent's cgroup.
func (s *strangers) fail(t *testing.T, box string) {
	t.Helper()
	seen, lost := s.of(box)
	for _, one := range seen {
		t.Errorf("the agent's own cgroup has let somebody in: %s", one)
	}
	if lost {
		t.Error("not every process was seen: there was no room for events")
	}
}

func TestWhoeverIsInTheAgentsCgroupForAMomentIsSeen(t *testing.T) {
	t.Parallel()
	w := newWorkspace(t)
	w.boot(t)
	w.MustExec(t, "sh", "-c", `
for own in /sys/fs/cgroup/system.slice/soe-agent.service /sys/fs/cgroup/systemd/system.slice/soe-agent.service; do [ ! -d $own ] || echo $$ >$own/cgroup.procs; done
setpriv --reuid=1000 --regid=1000 --clear-groups sleep 2`)
	if !await(t, func() bool { seen, _ := watched.of(w.Name); return len(seen) > 0 }) {
		t.Fatal("nobody was seen")
	}
}
