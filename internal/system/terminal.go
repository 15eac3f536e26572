package system

import (
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// giveTerminal makes a command start in a new session with a new terminal (pty(7)) as its standard
// input. If none can be had, the command runs without. The caller must call end to close the
// terminal.
func giveTerminal(cmd *exec.Cmd) (end func()) {
	theirs, ours, err := openTerminal()
	if err != nil {
		return func() {}
	}
	cmd.Stdin = theirs
	cmd.SysProcAttr.Setpgid = false // the session has its own process group
	cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty, cmd.SysProcAttr.Ctty = true, true, 0
	return func() {
		theirs.Close()
		ours.Close()
	}
}

func openTerminal() (theirs, ours *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours = os.NewFile(uintptr(fd), "/dev/ptmx")
	if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err == nil {
		peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
		if errno == 0 {
			return os.NewFile(peer, "terminal"), ours, nil
		}
		err = errno
	}
	ours.Close()
	return nil, nil, err
}
