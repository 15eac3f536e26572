// Package policysync fetches the policy that is published to a machine, and polls for a
// newer one from then on.
//
// A Machine knows the layers that are on the machine, and keeps the last good
// policy. Its Fetch puts them together with what is published: manifest, fragments,
// values. Its Known does so without the network, with what was published last.
// A Poller decides when to fetch: at once, then as often as is configured; after a
// failure as soon as its class allows; after a sleep of the machine not at the same
// moment as all others that woke with it. It never gives up, and whatever it waits
// for, it says.
//
// A value that cannot be fetched holds up only the resources that need it: they stay as
// they are, and the policy says why.
package policysync
