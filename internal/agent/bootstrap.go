package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/soe-agent/soe-agent/internal/facts"
	"github.com/soe-agent/soe-agent/internal/policy"
	"github.com/soe-agent/soe-agent/internal/policysync"
	"github.com/soe-agent/soe-agent/internal/public"
	"github.com/soe-agent/soe-agent/internal/source"
	"github.com/soe-agent/soe-agent/internal/system"
)

// bootstrap fetches the published policy, and then polls for newer ones.
func (d *daemon) bootstrap(ctx context.Context) {
	poller := policysync.Poller{
		Fetch: d.look, Interval: d.poll, Failed: d.waits, Wake: d.reload, Resumed: d.resumed,
	}
	poller.Run(ctx)
}

// rereading is how often the machine's own layers are read again while a part of them is refused. A read
// that failed once causes no file event when it would succeed.
const rereading = time.Minute

// poll returns how often to look for a newer policy; 0 if nothing is published to this machine.
func (d *daemon) poll() time.Duration {
	refused := len(d.refusals.all()) > 0
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.config.AWS.Path == "" && refused:
		return rereading
	case d.config.AWS.Path == "":
		return 0
	}
	return d.config.Schedule.Poll.Duration
}

// configuration reads agent.toml again. If it cannot be used, the last valid configuration stays in force,
// or the default if there was none, and the problem is reported.
func (d *daemon) configuration() Config {
	config, err := TrustedConfig(d.System.FS, d.configFile)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		problems := d.configurationRefused(err)
		if d.refusals.setConfig(problems) {
			d.Log.Error("the configuration is refused; the last valid one stays in force: correct agent.toml", "err", err)
		}
		if !d.configured {
			d.config = d.lastConfig()
		}
		return d.config
	}
	d.refusals.setConfig(nil)
	d.configured = true
	d.config, d.Schedule = config, config.Schedule
	return config
}

// configurationRefused returns the problems of agent.toml. Everybody may read errors of opening the file,
// because they quote none of its content.
func (d *daemon) configurationRefused(err error) []public.Line {
	open := errors.Is(err, system.ErrUnsafe) || system.MayBeReadByAll(d.System.FS, d.configFile)
	var problems []public.Line
	for text := range strings.SplitSeq(err.Error(), "\n") {
		if open {
			problems = append(problems, public.All(text))
			continue
		}
		problems = append(problems, public.Line{Whole: text, Open: d.configFile + ": cannot use the configuration: " + public.Withheld})
	}
	return problems
}

// lastConfig returns what is known of the configuration while none could be read since the agent started:
// the path and the personas of the last good policy. Nothing is taken away while it is in use. mu is held.
func (d *daemon) lastConfig() Config {
	config := Default()
	config.unsure = true
	if last, kept := d.layers().Last(d.Facts); kept {
		config.AWS.Path, config.Personas = last.Path, last.Personas
	}
	return config
}

// look fetches the policy once and enforces it if it is new.
func (d *daemon) look(ctx context.Context) error {
	config := d.configuration()
	f, err := facts.Gather(ctx, d.System)
	if err != nil {
		return err
	}
	d.mu.Lock()
	unidentified := d.Facts.Unidentified
	if !unidentified {
		d.Facts = f // the activation may come late; it gives the node and its region
		d.rememberFacts()
	}
	d.mu.Unlock()
	if unidentified { // whose state it is was decided when it was opened
		return errors.New("cannot use the agent's state: the machine's id could not be read when the agent started; it can be read now: restart soe-agent.service")
	}
	if config.AWS.Path == "" {
		d.byOwnLayers(ctx, config)
		return nil
	}
	away := d.contact.troubled()
	if away {
		d.byLastContact()
	}
	err = d.ask(ctx, config)
	if err != nil && !away {
		d.byLastContact()
	}
	return err
}

// rememberFacts keeps what kind of machine this is until the next boot. mu is held, or nobody else is at work
// yet.
func (d *daemon) rememberFacts() {
	if err := d.Facts.Remember(d.System); err != nil {
		d.Log.Warn("cannot remember what kind of machine this is until the next boot; each start determines it again", "err", err)
	}
}

// ask asks AWS for the policy and enforces it if it is new.
func (d *daemon) ask(ctx context.Context, config Config) error {
	d.mu.Lock()
	region := d.Facts.Region
	d.mu.Unlock()
	aws, err := d.link.to(config.AWS, region, func() (*source.AWS, error) {
		return d.connect(config, source.Client(), source.Retry{Waiting: d.waitsMeanwhile})
	})
	if err != nil {
		return err
	}
	subject, selection := d.subject(ctx, config, d.tagsOf(aws))
	d.personas.selected(config, selection)
	d.personas.asked(selection)
	found, err := d.layers().Fetch(ctx, subject, aws)
	if err != nil {
		return err
	}
	err = d.layers().Keep(found)
	if err != nil {
		d.Log.Error("cannot keep the policy for the next boot", "err", err)
	}
	d.contact.kept(err == nil)
	d.contacted(found)
	d.ownRefused(found.Refused)
	d.take(found.Policy)
	if len(found.Missing) > 0 {
		return found.Missing
	}
	return nil
}

// byLastContact enforces the machine's own layers as they are now together with what was last published:
// somebody may write a local fragment because AWS is away. The policy in force stays if its parts are not on
// disk: because there was no room for them, or because they were published below another path.
func (d *daemon) byLastContact() {
	d.mu.Lock()
	config := d.config
	d.mu.Unlock()
	subject := d.subjectMeanwhile(config)
	known, err := d.layers().Known(subject)
	d.ownRefused(known.Refused)
	if err != nil || len(known.Refused) > 0 {
		return
	}
	p, now := known.Policy, d.findings.inForce()
	stays := d.contact.isUnkept() || now.Serial != p.Serial ||
		now.Digest() == p.Digest() && now.Partial == p.Partial && slices.Equal(now.Doubts, p.Doubts)
	refused := d.refusals.ofPolicy()
	if !stays {
		d.contact.replace(p)
		d.Log.Info("enforcing the machine's own fragments with the last published policy", "policy", known.Policy.Digest(), "serial", known.Policy.Serial)
		d.enforce(known.Policy, refused)
	}
	if err := d.layers().KeepLocal(subject); err != nil {
		d.Log.Error("cannot keep the machine's own fragments for the next boot", "err", err)
	}
}

// subjectMeanwhile returns the subject while AWS is away: as it was last known, until the rules for personas
// can be evaluated and confirm it. What is published for other personas is not on the machine.
func (d *daemon) subjectMeanwhile(c Config) policysync.Subject {
	s := d.subjectAtBoot(c)
	selection := d.personas.lastAsked()
	switch {
	case selection == nil || len(c.Rules) == 0:
	case len(selection.Unknown) > 0:
		s.Doubts = c.doubts(*selection)
	case slices.Equal(selection.Personas, s.Personas):
		s.Unsure, s.Doubts = false, nil
	default:
		s.Doubts = []public.Line{public.All(fmt.Sprintf("its personas are %s now, and what is published for them has not been fetched yet", strings.Join(selection.Personas, ", ")))}
	}
	return s
}

// ownRefused records the problems of the machine's own layers.
func (d *daemon) ownRefused(problems []public.Line) {
	if !d.refusals.setOwn(problems) {
		return
	}
	if len(problems) > 0 {
		d.Log.Error("the machine's own fragments are refused; their last valid version stays in force, and nothing is taken away until they are corrected", "problems", public.Whole(problems))
	}
	d.publish()
}

// byOwnLayers enforces the policy that is on the machine, because nothing is published to it.
func (d *daemon) byOwnLayers(ctx context.Context, config Config) {
	subject, selection := d.subject(ctx, config, noTags)
	known, err := d.layers().Known(subject)
	if err != nil {
		d.refuse(d.layers().Problems(err))
		return
	}
	damaged := ""
	if known.Damaged { // nothing was published, so nothing of it can be missing
		damaged, known.Refused = known.Refused[0].Whole, known.Refused[1:]
	}
	if len(known.Refused) == 0 {
		err = d.layers().KeepOwn(subject)
	}
	switch {
	case err != nil:
		d.Log.Error("cannot keep the policy for the next boot", "err", err)
	case damaged != "" && len(known.Refused) == 0:
		d.Log.Warn("the last good policy kept on disk was damaged; it has been written anew", "err", damaged)
	}
	d.refusals.clearOwn()
	d.contact.nothingPublished()
	d.personas.selected(config, selection)
	d.enforce(known.Policy, known.Refused)
}

// contacted records that the service answered with a policy.
func (d *daemon) contacted(found policysync.Found) {
	if over := d.contact.answered(found, d.System.Clock.Now()); over != "" {
		d.Log.Info("the published policy is available again", "for", over)
	}
}

// take enforces a fetched policy if it differs from the last one, or if values in it have become known or
// unknown.
func (d *daemon) take(p *policy.Policy) {
	before := d.contact.take(p)
	d.mu.Lock()
	same := before != nil && samePolicy(before, p) && len(d.refusals.ofPolicy()) == 0 && reflect.DeepEqual(d.Schedule, d.enforced)
	d.mu.Unlock()
	if same {
		d.settle()
		d.publish()
		return
	}
	d.Log.Info("enforcing the published policy", "policy", p.Digest(), "serial", p.Serial)
	d.enforce(p, nil)
}

// samePolicy says whether two policies want the same, secrets included, and whether the same parts of them
// are unknown.
func samePolicy(a, b *policy.Policy) bool {
	if a == b {
		return true
	}
	if a.Serial != b.Serial || !slices.Equal(a.Doubts, b.Doubts) || a.Partial != b.Partial || a.Digest() != b.Digest() || len(a.Resources) != len(b.Resources) || !maps.Equal(a.Why, b.Why) {
		return false
	}
	for i := range a.Resources {
		before, after := a.Resources[i], b.Resources[i]
		if !slices.Equal(before.Secrets, after.Secrets) || !slices.Equal(before.Missing, after.Missing) || before.Unusable != after.Unusable {
			return false
		}
	}
	return true
}

// waitsMeanwhile is called before each wait of a fetch that goes on until AWS answers. At the first wait it
// enforces local changes, because only now it is known that AWS is away.
func (d *daemon) waitsMeanwhile(err error, next time.Time) {
	if !d.contact.troubled() {
		d.byLastContact()
	}
	d.waits(err, next)
}

// waits records what the daemon waits for. A policy that its author has to correct is refused; that is not
// a failure to reach AWS.
func (d *daemon) waits(err error, next time.Time) {
	trouble := source.TroubleOf(err)
	var missing source.Missing
	refused := isRefusal(err) && !errors.As(err, &missing)
	problems := d.layers().Problems(err)
	d.mu.Lock()
	hidden := d.config.hidden
	d.mu.Unlock()
	waiting, news := trouble.Line(hidden), false
	if refused { // recorded before the contact: see awaited
		waiting = public.All("a policy that can be used: " + trouble.Name)
		news = d.refusals.setPolicy(problems)
		d.contact.refused(d.System.Clock.Now())
	}
	news = d.contact.waits(waiting, trouble.Name, next) || news
	switch {
	case news && refused:
		d.Log.Error("the published policy is refused; the last good one stays in force", "for", trouble.Name, "err", err)
	case news:
		d.Log.Warn("cannot get the published policy; it is tried again", "for", trouble.Name, "err", err)
	}
	d.publish()
}
