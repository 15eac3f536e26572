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

// ComplianceType is the type name of these reports in SSM Compliance and Inventory. It must not contain a
// hyphen.
const ComplianceType = "Custom:SoeAgent"

// Room is how many bytes of items a call of PutComplianceItems gets. The size at which the service refuses
// them is not documented; 800 KB has been seen in the field.
const Room = 700_000

// Limits of PutComplianceItems (Systems Manager API Reference), in characters. Here they are bytes, of which
// there are never fewer. For an Id no limit is documented.
const (
	maxItems  = 10000
	maxTitle  = 500
	maxDetail = 4096
	maxID     = 100
)

// fairDetail is what is left of a detail as long as every resource has its place in the list; leastDetail
// is the shortest detail that is worth its room. Both are in bytes.
const (
	fairDetail  = 256
	leastDetail = 64
)

// ComplianceItems returns the report as input for SSM Compliance. It is always the whole list, because each
// call replaces the previous one. The machine must be a managed node. The digest is equal for two reports
// with the same content.
//
// The items take at most room bytes on the wire. What does not fit is dropped in this order: the longest
// details are cut, and marked; resources in line lose their details; resources in line are left out, the
// least severe first, and one item counts them; resources not in line lose their details; and they are left
// out, the least severe first.
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
	// The service ignores a call with the hash that it has. A report that says the same as a day ago is
	// sent so that it counts as new, so its hash must differ.
	again := sha256.Sum256([]byte(digest + r.Time.UTC().Format(time.RFC3339Nano)))
	in.ItemContentHash = aws.String(hex.EncodeToString(again[:]))
	return in, digest
}

// ranked returns the resources in the order in which they get room. Each Id occurs once. What is not applicable
// has no place: the service knows nothing between compliant and not.
func (r Report) ranked() []converge.Resource {
	all := slices.DeleteFunc(slices.Clone(r.Resources), func(resource converge.Resource) bool { return resource.State == converge.NotApplicable })
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

// refusedID is the id of the item about the policy itself: a newer one that is not in force, a doubt about
// it, or that it is not here yet.
const refusedID = policy.ID("policy/current")

// concern is smaller for resources that need more attention.
func concern(r converge.Resource) int {
	switch {
	case !r.Tolerable():
		return 0
	case !r.State.InLine():
		return 1
	}
	return 2
}

// severities returns those of the service, the worst first.
func severities() []types.ComplianceSeverity { return types.ComplianceSeverity("").Values() }

func severity(r converge.Resource) types.ComplianceSeverity {
	s := types.ComplianceSeverity(strings.ToUpper(string(r.Severity)))
	if slices.Contains(severities(), s) {
		return s
	}
	return types.ComplianceSeverityMedium
}

// fit makes items of resources; they take at most room bytes.
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
	room -= size(leftOut(ranked)) // for all of them: no smaller number takes more room
	f := form{fairDetail, true}
	for f.longest > 0 && len(f.fill(findings, room, maxItems-1)) < len(findings) {
		if f.longest /= 2; f.longest < leastDetail {
			f.longest = 0
		}
	}
	items := f.fill(ranked, room, maxItems-1)
	return append(items, leftOut(ranked[len(items):]))
}

// leftOut returns the item that stands for resources that did not fit.
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

// A form is how much is said of each resource.
type form struct {
	longest int  // bytes of a detail; 0: no details
	bare    bool // resources in line have no details
}

// fill makes items of resources, in their order, until room or most is used up.
func (f form) fill(resources []converge.Resource, room, most int) []types.ComplianceItemEntry {
	items := []types.ComplianceItemEntry{} // an empty list is sent as such, not left out
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

// details returns the details of a resource, each of at most longest bytes.
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
		wants = append(wants, d.Aspect+": "+shorten(d.Want, longest)) // some are whole files
		gots = append(gots, d.Aspect+": "+shorten(d.Got, longest))
	}
	all["expected"], all["actual"] = strings.Join(wants, "\n"), strings.Join(gots, "\n")
	maps.DeleteFunc(all, func(_, value string) bool { return value == "" })
	for key, value := range all {
		all[key] = tidy(value, longest)
	}
	return all
}

// size returns an upper bound of the bytes of JSON that an item takes in a list.
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

// quoted returns the length in JSON of a text that tidy returned.
func quoted(text string) int {
	n := len(text)
	for _, escaped := range []string{`"`, `\`, "\n", "\t"} {
		n += strings.Count(text, escaped)
	}
	return n
}

// shortID makes an ID fit. It keeps more of the end of a path than of the beginning, and adds a hash, so that
// two IDs that are cut the same stay different.
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
	head := shorten(shown, 20) + hash + mark // shown is longer, so this ends with a mark
	tail := shown[len(shown)-(maxID-len(head)):]
	for !utf8.RuneStart(tail[0]) {
		tail = tail[1:]
	}
	return head + tail
}

// mark replaces what was cut.
const mark = "…"

// tidy cleans a text (Clean) and cuts it to at most n bytes.
func tidy(text string, n int) string { return shorten(Clean(shorten(text, n)), n) }

// shorten cuts a text to at most n bytes, and marks the cut.
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
