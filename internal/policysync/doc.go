// Package policysync fetches the policy that is published to a machine, and polls for newer ones.
//
// A Machine has the layers that are on the machine, and keeps the last good policy. Fetch combines these
// layers with what is published: manifest, fragments, values. Known does so without the network, with what
// was published last. A Poller decides when to fetch: at once, then as often as is configured. After a
// failure it waits as long as the class of the error demands; after a sleep of the machine it waits for a
// random time, so that machines that woke together do not fetch together. It never gives up, and it
// reports every failure with the time of the next attempt.
//
// A value that cannot be fetched holds up only the resources that need it: they stay as they are, and the
// policy says why.
package policysync
