package policy

import (
	"path"

	"github.com/soe-agent/soe-agent/internal/dropindir"
)

// ReaderIsKnown reports whether the agent knows who reads the files of a directory, and so what
// makes a change take effect. In any other directory, a file is only kept on disk.
func ReaderIsKnown(dir string) bool {
	known := dropindir.Of(dir)
	return known.Names.Reads != nil || known.Reader != nil || known.Holds || isSkeleton(dir)
}

// unknownReader asks the author for what only the author knows about a file.
func (a *adviser) unknownReader(s Setting, d Dropin) {
	if dir := path.Dir("/" + s.ID.Name()); d.Activate == nil && !ReaderIsKnown(dir) {
		a.say(Notice, s.Line, "it is not known who reads "+dir+": the file is kept, and whether it is in effect is not looked at",
			"say with activate which command makes a change take effect, or with activate = [] that none is needed")
	}
}
