package report

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/soe-agent/soe-agent/internal/converge"
	"github.com/soe-agent/soe-agent/internal/policy"
)

// ComplianceType is the name under which SSM Compliance and Inventory know these
// reports. A hyphen would not be allowed in it.
const ComplianceType = "Custom:SoeAgent"

// Room is how many bytes of items PutComplianceItems is given. The size at which it
// refuses them is not published; 800 KB is what the field has met.
const Room = 700_000

// What PutComplianceItems takes (Systems Manager API Reference), in characters; here
// it is bytes, which are never fewer. For an Id no limit is published.
const (
	maxItems  = 10000
	maxTitle  = 500
	maxDetail = 4096
	maxID     = 100
)

// What is left of a detail while every resource has its place in the list, and the
// least that is worth its place.
const (
	fairDetail  = 256
	leastDetail = 64
)

// ComplianceItems is the report as SSM Compliance takes it: the whole list, for each
// call replaces what was there. The machine must be a managed node. The digest is the
// same for two reports that tell the same.
//
// The items take at most room bytes on the wire. What has no room goes in this order:
// the longest details are cut, and marked; what is in line keeps its name alone; what
// is in line goes, the least severe first, and one item says how many there were; the
// details of what is not in line; and what is not in line, the least severe first.
func (r Report) ComplianceItems(room int) (in *ssm.PutComplianceItemsInput, digest string) {
	in = &ssm.PutComplianceItemsInput{
		ResourceId:     aws.String(r.Machine.ManagedNode),
		ResourceType:   aws.String("ManagedInstance"),
		ComplianceType: aws.String(ComplianceType),
		ExecutionSummary: &types.ComplianceExecutionSummary{
			ExecutionTime: aws.Time(r.Time), ExecutionId: aws.String(r.Policy.Digest), ExecutionType: aws.String("Custom"),
		},
		Items: fit(r.ranked(), room),
	}
	content := sha256.New()
	content.Write([]byte(r.Machine.ManagedNode + "\n" + r.Policy.Digest + "\n"))
	_ = json.NewEncoder(content).Encode(in.Items) // plain data always marshals, and a hash takes all
	digest = hex.EncodeToString(content.Sum(nil))
	// What has the hash of what is there is ignored. A report that says again what it
	// said a day ago is sent so that it counts as said today.
	again := sha256.Sum256([]byte(digest + r.Time.UTC().Format(time.RFC3339Nano)))
	in.ItemContentHash = aws.String(hex.EncodeToString(again[:]))
	return in, digest
}

// ranked are the resources in the order in which there should be room for them. An Id
// stands once.
func (r Report) ranked() []converge.Resource {
	all := slices.Clone(r.Resources)
	if questions := r.questions(); len(questions) > 0 {
		state, texts := converge.Unknown, make([]string, len(questions))
		for i, q := range questions {
			texts[i] = q.text
			if q.kind == "refused" {
				state = converge.Failed
			}
		}
		all = append(all, converge.Resource{ID: refusedID, State: state, Severity: policy.Critical, Reason: strings.Join(texts, "\n")})
	}
	slices.SortStableFunc(all, func(a, b converge.Resource) int {
		return cmp.Or(concern(a)-concern(b), slices.Index(severities(), severity(a))-slices.Index(severities(), severity(b)))
	})
	seen := make(map[string]bool, len(all))
	return slices.DeleteFunc(all, func(resource converge.Resource) bool {
		id := shortID(string(resource.ID))
		twice := seen[id]
		seen[id] = true
		return twice
	})
}

// refusedID is of the item about what is amiss with the policy itself: a newer one that is
// not in force, what is in doubt about it or not here yet.
const refusedID = policy.ID("policy/current")

// concern is the less the more a resource asks for somebody.
func concern(r converge.Resource) int {
	switch {
	case !r.Tolerable():
		return 0
	case !r.State.InLine():
		return 1
	}
	return 2
}

// severities are those of the service, the worst first.
func severities() []types.ComplianceSeverity { return types.ComplianceSeverity("").Values() }

func severity(r converge.Resource) types.ComplianceSeverity {
	s := types.ComplianceSeverity(strings.ToUpper(string(r.Severity)))
	if slices.Contains(severities(), s) {
		return s
	}
	return types.ComplianceSeverityMedium
}

// fit makes items of resources that take at most room bytes.
func fit(ranked []converge.Resource, room int) []types.ComplianceItemEntry {
	for _, bare := range []bool{false, true} {
		for longest := maxDetail; longest >= fairDetail; longest /= 2 {
			if items := (form{longest, bare}).fill(ranked, room, maxItems); len(items) == len(ranked) {
				return items
			}
		}
	}
	findings := ranked
	if i := slices.IndexFunc(ranked, func(r converge.Resource) bool { return r.State.InLine() }); i >= 0 {
		findings = ranked[:i]
	}
	room -= size(leftOut(ranked)) // of all of them: no other takes more
	f := form{fairDetail, true}
	for f.longest > 0 && len(f.fill(findings, room, maxItems-1)) < len(findings) {
		if f.longest /= 2; f.longest < leastDetail {
			f.longest = 0
		}
	}
	items := f.fill(ranked, room, maxItems-1)
	return append(items, leftOut(ranked[len(items):]))
}

// leftOut is the item that stands for resources for which there is no room.
func leftOut(resources []converge.Resource) types.ComplianceItemEntry {
	inLine := 0
	for _, r := range resources {
		if r.State.InLine() {
			inLine++
		}
	}
	item := types.ComplianceItemEntry{
		Id:       aws.String("report/left-out"),
		Title:    aws.String(fmt.Sprintf("%d more resources, %d of them not in line: see soe-agent report on the machine", len(resources), len(resources)-inLine)),
		Severity: types.ComplianceSeverityInformational, Status: types.ComplianceStatusCompliant,
		Details: map[string]string{"compliant": fmt.Sprint(inLine), "non-compliant": fmt.Sprint(len(resources) - inLine)},
	}
	if inLine < len(resources) {
		item.Severity, item.Status = severity(resources[0]), types.ComplianceStatusNonCompliant
	}
	return item
}

// A form is how much is told of each resource.
type form struct {
	longest int  // bytes of a detail; 0: no details
	bare    bool // what is in line has no details
}

// fill makes items of resources, in their order, as long as there is room.
func (f form) fill(resources []converge.Resource, room, most int) []types.ComplianceItemEntry {
	items := []types.ComplianceItemEntry{} // none is not the same as no list
	for _, r := range resources[:min(most, len(resources))] {
		item := f.item(r)
		if room -= size(item); room < 0 {
			break
		}
		items = append(items, item)
	}
	return items
}

func (f form) item(r converge.Resource) types.ComplianceItemEntry {
	item := types.ComplianceItemEntry{
		Id: aws.String(shortID(string(r.ID))), Severity: severity(r), Status: types.ComplianceStatusNonCompliant,
	}
	if r.State.InLine() {
		item.Status = types.ComplianceStatusCompliant
	}
	if f.longest == 0 || f.bare && r.State.InLine() {
		return item
	}
	title := string(r.ID)
	if r.ID == refusedID {
		title = "the published policy is in force"
	}
	item.Title, item.Details = aws.String(tidy(title, maxTitle)), details(r, f.longest)
	return item
}

// details are what is known of a resource, each of at most so many bytes.
func details(r converge.Resource, longest int) map[string]string {
	all := map[string]string{
		"state": string(r.State), "reason": r.Reason, "cause": string(r.Cause), "effect": string(r.Effect),
		"disrupt": r.Disrupt, "controls": strings.Join(r.Controls, " "), "withheld": strings.Join(r.Withheld, ", "),
	}
	if !r.Since.IsZero() {
		all["since"] = r.Since.UTC().Format(time.RFC3339)
	}
	if r.Origin.Fragment != "" {
		all["origin"] = r.Origin.String()
	}
	var wants, gots []string
	for _, d := range r.Diff {
		wants = append(wants, d.Aspect+": "+shorten(d.Want, longest)) // whole files, some of them
		gots = append(gots, d.Aspect+": "+shorten(d.Got, longest))
	}
	all["expected"], all["actual"] = strings.Join(wants, "\n"), strings.Join(gots, "\n")
	maps.DeleteFunc(all, func(_, value string) bool { return value == "" })
	for key, value := range all {
		all[key] = tidy(value, longest)
	}
	return all
}

// size is how many bytes of JSON an item takes in a list, at the most.
func size(item types.ComplianceItemEntry) int {
	n := len(`{"Id":"","Severity":"","Status":""},`) + quoted(*item.Id) + len(item.Severity) + len(item.Status)
	if item.Title != nil {
		n += len(`"Title":"","Details":{},`) + quoted(*item.Title)
	}
	for key, value := range item.Details {
		n += len(`"":"",`) + quoted(key) + quoted(value)
	}
	return n
}

// quoted is the length in JSON of a text that is tidy.
func quoted(text string) int {
	n := len(text)
	for _, escaped := range []string{`"`, `\`, "\n", "\t"} {
		n += strings.Count(text, escaped)
	}
	return n
}

// shortID makes an ID fit: the end of a path tells more than its beginning, and a
// hash keeps two apart of which not all can be shown.
func shortID(id string) string {
	shown := Clean(id)
	if shown == id && len(id) > 0 && len(id) <= maxID {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	hash := hex.EncodeToString(sum[:8])
	if marked := shown + mark + hash; len(marked) <= maxID {
		return marked
	}
	head := shorten(shown, 20) + hash + mark // shown is longer, and so has a mark at its end
	tail := shown[len(shown)-(maxID-len(head)):]
	for !utf8.RuneStart(tail[0]) {
		tail = tail[1:]
	}
	return head + tail
}

// mark stands where something was cut.
const mark = "…"

// tidy makes a text of at most n bytes that is fit to be seen.
func tidy(text string, n int) string { return shorten(Clean(shorten(text, n)), n) }

// shorten cuts a text to at most n bytes, with a mark where something was cut.
func shorten(text string, n int) string {
	if len(text) <= n {
		return text
	}
	cut := n - len(mark)
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + mark
}
