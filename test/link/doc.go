// Package link is the agent's way to AWS over a real network that is slow and loses packets: two network namespaces
// with a cable between them, the kernel's own TCP, and in the middle what loses. The tests need root and what
// test/setup.sh installs, and fail without it.
package link
