package packages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/system"
)

const extrasFile = "/etc/yum.repos.d/amzn2-extras.repo"

// enableTopics enables the topics of amazon-linux-extras that packages come from. It returns the
// errors of the packages whose topic could not be enabled.
func (k *Kind) enableTopics(ctx context.Context, wants []policy.Want[policy.Package]) map[policy.ID]error {
	failed := map[policy.ID]error{}
	tried := map[string]error{}
	enabled := false
	for _, want := range wants {
		topic := want.Spec.Topic
		if topic == "" || want.Spec.Ensure == policy.Absent || k.topicEnabled(topic) {
			continue
		}
		err, done := tried[topic]
		if !done {
			err = k.enableTopic(ctx, topic)
			tried[topic] = err
			enabled = enabled || err == nil
		}
		if err != nil {
			failed[want.ID] = public.Because(fmt.Sprintf("cannot install %s: cannot enable the topic %s of amazon-linux-extras", want.ID.Name(), topic), err)
		}
	}
	if enabled {
		// If this fails, the topic's packages are not found, and that is reported.
		_, _ = k.system.Runner.Run(ctx, system.Command{Argv: []string{k.manager.program(), "clean", "metadata"}})
	}
	return failed
}

// topicEnabled reports whether a topic is enabled. It reads the file that amazon-linux-extras
// writes: a section for each topic, with "enabled = 1".
func (k *Kind) topicEnabled(topic string) bool {
	content, err := k.system.FS.ReadFile(extrasFile)
	if err != nil {
		return false
	}
	name, _, _ := strings.Cut(topic, "=") // a topic may include the wanted version
	return slices.Contains(parseINI(content)["amzn2extra-"+name], setting{"enabled", "1"})
}

func (k *Kind) enableTopic(ctx context.Context, topic string) error {
	out, err := k.system.Runner.Run(ctx, system.Command{
		Argv: []string{"amazon-linux-extras", "enable", topic}, Timeout: 2 * time.Minute,
	})
	switch {
	case errors.Is(err, system.ErrNotInstalled):
		return errors.New("there is no amazon-linux-extras on this machine; topics are for Amazon Linux 2 alone")
	case err != nil:
		return err
	case !k.topicEnabled(topic):
		return errors.New(out.LastLine())
	}
	return nil
}
