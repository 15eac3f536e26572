package watch

import "time"

// CatchUpWithin makes CatchUp wait longer, for a machine that is busy with other tests.
func (w *Watcher) CatchUpWithin(timeout time.Duration) { w.catchUpTimeout = timeout }
