package system

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// longestRead is how long a file is read that its reader has to wait for.
const longestRead = 2 * time.Second

// ReadGiven reads a regular file that a user names, or that is found in a directory that a user names,
// of up to most bytes. It follows links and never blocks: what is no regular file is not read. The
// error is one of the operating system, or wraps ErrNotRegular or ErrLarge; it does not name the file.
func ReadGiven(name string, most int64) ([]byte, error) {
	// What blocks when it is opened, or has an effect then, is never opened: Stat before, and O_NONBLOCK
	// in case it is replaced meanwhile.
	info, err := os.Stat(name)
	if err != nil {
		return nil, bare(err)
	}
	if err := readable(info, most); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, bare(err)
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return nil, bare(err)
	}
	if err := readable(info, most); err != nil {
		return nil, err
	}
	_ = f.SetReadDeadline(time.Now().Add(longestRead))    // of the few files of /proc that wait, and no other
	content, err := io.ReadAll(io.LimitReader(f, most+1)) // it may grow, and /proc says that all is empty
	if err == nil && int64(len(content)) > most {
		err = tooLarge(most)
	}
	if err != nil {
		return nil, bare(err)
	}
	return content, nil
}

// readable returns an error if a file must not be read.
func readable(info fs.FileInfo, most int64) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w but a %s; take it away, or name a regular file", ErrNotRegular, typeInWords(info.Mode()))
	}
	if info.Size() > most {
		return tooLarge(most)
	}
	return nil
}

func tooLarge(most int64) error {
	if most%(1<<20) == 0 {
		return fmt.Errorf("%w: it may have up to %d MiB; split it", ErrLarge, most>>20)
	}
	return fmt.Errorf("%w: it may have up to %d bytes; split it", ErrLarge, most)
}

func typeInWords(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeNamedPipe != 0:
		return "pipe"
	case mode&fs.ModeSocket != 0:
		return "socket"
	case mode&fs.ModeDevice != 0:
		return "device"
	}
	return typeName(mode)
}

// bare is an error without the name of the file, which the caller says.
func bare(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}
