package system

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// spend runs f in a thread that is destroyed when f returns, because a thread never gets back the
// privileges and mounts that it gives up. It returns at once.
//
// It never uses the main thread of the process. The main thread cannot be destroyed, and /proc
// shows the process by its main thread: /proc/self/mounts of the daemon would permanently show the
// mounts made for a command.
func spend(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f() // and the thread is never unlocked
			return
		}
		other := make(chan struct{})
		go func() {
			runtime.LockOSThread() // this gets another thread, because this one is locked
			close(other)
			f()
		}()
		<-other
		runtime.UnlockOSThread()
	}()
}
