package system

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// spend runs f in a thread that ends with it: what a thread has given up, or sees in place of what is
// there, it never gets back. It returns at once.
//
// It is never the thread in which the process began. That one ends with the process alone, and is the one
// by which /proc knows it: what a command was shown would be the daemon's /proc/self/mounts for good.
func spend(f func()) {
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			f() // and the thread is never unlocked
			return
		}
		other := make(chan struct{})
		go func() {
			runtime.LockOSThread() // another one, for this one is held meanwhile
			close(other)
			f()
		}()
		<-other
		runtime.UnlockOSThread()
	}()
}
