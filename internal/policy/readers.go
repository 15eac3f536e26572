package policy

import (
	"path"

	"github.com/soe-agent/soe-agent/internal/dropindir"
)

// ReaderIsKnown says whether the agent knows who reads the files of a directory, and so what
// makes a change of one take effect. Of any other a file is only kept as it is wanted.
func ReaderIsKnown(dir string) bool {
	known := dropindir.Of(dir)
	return known.Names.Reads != nil || known.Reader != nil || known.Holds || isSkeleton(dir)
}

// unknownReader says of a file what only its author can tell.
func (a *adviser) unknownReader(s Setting, d Dropin) {
	if dir := path.Dir("/" + s.ID.Name()); d.Activate == nil && !ReaderIsKnown(dir) {
		a.say(Notice, s.Line, "it is not known who reads "+dir+": the file is kept, and whether it is in effect is not looked at",
			"say with activate which command makes a change take effect, or with activate = [] that none is needed")
	}
}
