package policy

import (
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

func repositoriesSection() section {
	return section{"repositories", named("package repositories, by their ids", "NAME", repositoryName.String(), repositoryForm()), (*decoder).repositories, `[repositories.corp]
name = "Corporate packages"
baseurl = "https://rpm.example.com/al2/$basearch"
gpgkey = "https://rpm.example.com/KEY"
fingerprint = "1234 5678 9ABC DEF0 1234  5678 9ABC DEF0 1234 5678"
`, []Spec{Repository{}}}
}

// Repository is a repository of yum or dnf: its file, /etc/yum.repos.d/NAME.repo, with its keys, or
// some settings of one that something else defines (see Brought). Packages from it are always
// verified with its keys.
type Repository struct {
	Ensure       Ensure   `json:"ensure"`
	Title        string   `json:"title,omitempty"`
	BaseURL      string   `json:"baseurl,omitempty"`
	Metalink     string   `json:"metalink,omitempty"`
	MirrorList   string   `json:"mirrorlist,omitempty"`
	GPGKeys      []string `json:"gpgkey,omitempty"`      // URLs; one may have several keys
	Fingerprints []string `json:"fingerprint,omitempty"` // of all keys: 40 hex digits in upper case
	RepositorySettings
}

// RepositorySettings are the settings of any repository, as in yum.conf(5) and dnf.conf(5). A nil
// or empty field means the agent's default; in a repository that something else defines, it is not
// managed.
type RepositorySettings struct {
	Enabled           *bool    `json:"enabled,omitempty"`
	Priority          int      `json:"priority,omitempty"`
	Exclude           []string `json:"exclude,omitempty"`
	IncludePkgs       []string `json:"includepkgs,omitempty"`
	Proxy             string   `json:"proxy,omitempty"`
	SSLCACert         string   `json:"sslcacert,omitempty"`
	SSLClientCert     string   `json:"sslclientcert,omitempty"`
	SSLClientKey      string   `json:"sslclientkey,omitempty"`
	MetadataExpire    string   `json:"metadata_expire,omitempty"`
	SkipIfUnavailable *bool    `json:"skip_if_unavailable,omitempty"`
	ModuleHotfixes    *bool    `json:"module_hotfixes,omitempty"`
}

// Brought reports whether a package or a person defines the repository, and the policy only sets
// some settings.
func (r Repository) Brought() bool {
	return r.Ensure == Present && reflect.DeepEqual(r, Repository{Ensure: Present, RepositorySettings: r.RepositorySettings})
}

// Kind implements Spec.
func (Repository) Kind() string { return "repository" }

// Expand implements Spec.
func (r Repository) Expand(expand func(string) string) Spec {
	for _, text := range []*string{&r.BaseURL, &r.Metalink, &r.MirrorList, &r.Proxy} {
		*text = expand(*text)
	}
	if r.GPGKeys != nil {
		r.GPGKeys = expandAll(r.GPGKeys, expand)
	}
	if r.Fingerprints != nil {
		r.Fingerprints = expandAll(r.Fingerprints, func(text string) string { return plainFingerprint(expand(text)) })
	}
	return r
}

// plainFingerprint normalizes a fingerprint as gpg(1) prints it, in groups and in either case. A
// reference is left as it is.
func plainFingerprint(text string) string {
	if hasReference(text) {
		return text
	}
	return strings.ToUpper(strings.ReplaceAll(text, " ", ""))
}

func repositoryForm() *form {
	url := func(doc string) *form { return &form{doc: doc, types: []string{aString}, pattern: anyURL, open: true} }
	fingerprint := func(doc string) *form {
		return &form{doc: doc, types: []string{aString}, pattern: anyFingerprint, open: true}
	}
	settings := []key{
		{name: "priority", form: whole("as in yum.conf(5), the lowest first; left out: the default of the package manager, 99", 1, 99)},
		{name: "enabled", form: yesOrNo("as in yum.conf(5); left out: `true`")},
		{name: "exclude", form: texts("packages that are not taken from it, also by `*`", like("", packagePattern.String())).eg(`["kernel*"]`)},
		{name: "includepkgs", form: texts("the only packages that are taken from it, also by `*`", like("", packagePattern.String()))},
		{name: "proxy", form: &form{doc: "the proxy by which it is reached, or `_none_`", types: []string{aString}, pattern: proxyURL.String(), open: true}},
		{name: "sslcacert", form: like("the file of the authorities by which its server is verified", absolutePath)},
		{name: "sslclientcert", form: like("the file of the machine's certificate for its server", absolutePath)},
		{name: "sslclientkey", form: like("the file of the key of that certificate", absolutePath)},
		{name: "metadata_expire", form: like("how long what it has is believed to be so, in seconds or with `m`, `h`, `d`; left out: half an hour", expiry.String()).eg(`"6h"`)},
		{name: "skip_if_unavailable", form: yesOrNo("what else is to be done with packages goes on without it when it cannot be reached; left out: `true`")},
		{name: "module_hotfixes", form: yesOrNo("modules of dnf hide none of its packages")},
	}
	needs := [][]string{{"baseurl", "gpgkey", "fingerprint"}, {"metalink", "gpgkey", "fingerprint"}, {"mirrorlist", "gpgkey", "fingerprint"}, {"ensure"}}
	for _, k := range settings {
		needs = append(needs, []string{k.name})
	}
	return record("a package repository; packages from it are checked against its keys. Without a place and a key: settings of one that something else has brought",
		append([]key{
			ensureKey(),
			{name: "name", form: text("its title")},
			{name: "baseurl", form: url("where it is").eg(`"https://rpm.example.com/al2/$basearch"`)},
			{name: "metalink", form: url("where a list of its mirrors with digests is")},
			{name: "mirrorlist", form: url("where a list of its mirrors is")},
			{name: "gpgkey", form: oneOf(url("where its key is"), texts("where its keys are, if there are several", url("")))},
			{name: "fingerprint", form: oneOf(fingerprint("that of its key, 40 hexadecimal digits: another key is not imported"), texts("those of all its keys: no other is imported", fingerprint("")))},
		}, settings...)...).needing(needs...)
}

func (d *decoder) repositories(t *table) {
	d.each(t, func(name string, r *table) {
		repository := Repository{
			Ensure: r.ensure(), Title: r.text("name"), BaseURL: r.text("baseurl"), Metalink: r.text("metalink"), MirrorList: r.text("mirrorlist"),
			GPGKeys: r.oneOrMore("gpgkey"),
			RepositorySettings: RepositorySettings{
				Enabled: r.flag("enabled"), Exclude: r.texts("exclude"), IncludePkgs: r.texts("includepkgs"), Proxy: r.text("proxy"),
				SSLCACert: r.text("sslcacert"), SSLClientCert: r.text("sslclientcert"), SSLClientKey: r.text("sslclientkey"),
				MetadataExpire: r.text("metadata_expire"), SkipIfUnavailable: r.flag("skip_if_unavailable"), ModuleHotfixes: r.flag("module_hotfixes"),
			},
		}
		for _, text := range r.oneOrMore("fingerprint") {
			repository.Fingerprints = append(repository.Fingerprints, plainFingerprint(text))
		}
		if priority := r.number("priority"); priority != nil {
			repository.Priority = *priority
			if *priority == 0 {
				r.problem("priority", "0 is not between 1 and 99; leave it out for the default of the package manager")
			}
		}
		d.set(t, name, NewID("repository", name), repository)
	})
}

// oneOrMore reads a string, or an array of strings.
func (t *table) oneOrMore(key string) []string {
	if t.isArray(key) {
		return t.texts(key)
	}
	if text, there := read[string](t, key, "a string, or an array of strings"); there {
		return []string{text}
	}
	return nil
}

var (
	repositoryName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]*$`)
	fingerprint    = regexp.MustCompile(`^[0-9A-F]{40}$`)
	packagePattern = regexp.MustCompile(`^[^\s,=#;]+$`)
	expiry         = regexp.MustCompile(`^([0-9]+(\.[0-9]+)?[smhd]?|never|-1)$`)
	proxyURL       = regexp.MustCompile(`^((https?|socks[45]?h?)://[^\s,]+|_none_)$`)
)

func (r Repository) validate(v *validator) {
	v.match(repositoryName, v.name, "is not a repository id")
	v.refuse(strings.EqualFold(v.name, "main") || v.name == "installed", "%s is the name of no repository: yum and dnf mean something else by it", v.name)
	v.ensure(r.Ensure)
	if r.Ensure == Absent {
		return
	}
	v.repositorySettings(r.RepositorySettings)
	if r.Brought() {
		v.refuse(reflect.DeepEqual(r.RepositorySettings, RepositorySettings{}),
			"it needs a baseurl, a gpgkey and a fingerprint, or something that is to be set of a repository which a package brings")
		return
	}
	v.refuse(r.BaseURL == "" && r.Metalink == "" && r.MirrorList == "", "it needs a baseurl, a metalink or a mirrorlist")
	v.refuse(len(r.GPGKeys) == 0 || r.GPGKeys[0] == "", "it needs a gpgkey: packages are only installed when they are signed")
	v.refuse(len(r.Fingerprints) == 0, "it needs a fingerprint, by which the gpgkey is recognised")
	for _, text := range r.Fingerprints {
		v.match(fingerprint, text, "is not a fingerprint: 40 hexadecimal digits, with which the gpgkey is recognised")
	}
	v.refuse(breaksLine(r.Title), "%q has a line break or another control character", r.Title)
	for _, text := range append([]string{r.BaseURL, r.Metalink, r.MirrorList}, r.GPGKeys...) {
		v.urls(text)
	}
	v.refuse(len(r.Fingerprints) > 0 && len(r.Fingerprints) < len(r.GPGKeys), "it has %d keys and %d fingerprints: each key has one of its own", len(r.GPGKeys), len(r.Fingerprints))
	for what, texts := range map[string][]string{"gpgkey": r.GPGKeys, "fingerprint": r.Fingerprints} {
		v.refuse(len(setOf(texts)) < len(texts), "%s has one twice", what)
	}
}

// urls judges what yum and dnf read as a URL, or several with commas between them.
func (v *validator) urls(text string) {
	v.refuse(breaksLine(text), "%.200q has a line break or another control character", text)
	if text == "" || v.open(text) {
		return
	}
	for url := range strings.SplitSeq(text, ",") {
		if why := badURL(url); why != "" {
			v.wrong("%.200q %s", url, why)
		}
	}
}

func (v *validator) repositorySettings(s RepositorySettings) {
	v.refuse(s.Priority < 0 || s.Priority > 99, "priority %d is not between 1 and 99", s.Priority)
	for _, pattern := range append(append([]string{}, s.Exclude...), s.IncludePkgs...) {
		v.match(packagePattern, pattern, "is not the name of a package, nor a pattern of names")
	}
	if s.Proxy != "" {
		v.match(proxyURL, s.Proxy, `is not the URL of a proxy, nor "_none_"`)
		if proxy, err := url.Parse(s.Proxy); s.Proxy != "_none_" && !v.open(s.Proxy) && (err != nil || badHost(proxy) != "") {
			v.wrong("%.200q is not the URL of a proxy: it names no host, or no port", s.Proxy)
		}
	}
	for _, file := range []struct{ key, name string }{{"sslcacert", s.SSLCACert}, {"sslclientcert", s.SSLClientCert}, {"sslclientkey", s.SSLClientKey}} {
		if file.name != "" {
			v.absolute(file.key, file.name)
		}
	}
	v.refuse((s.SSLClientCert == "") != (s.SSLClientKey == ""), "sslclientcert and sslclientkey belong together")
	if s.MetadataExpire != "" {
		v.match(expiry, s.MetadataExpire, `is not a time such as "6h", nor "never"`)
	}
}

func (r Repository) entry(name string) entry {
	lines := pairs("ensure", r.Ensure.unlessPresent(), "name", r.Title, "baseurl", r.BaseURL, "metalink", r.Metalink, "mirrorlist", r.MirrorList,
		"gpgkey", oneIfSo(r.GPGKeys), "fingerprint", oneIfSo(r.Fingerprints))
	if r.Priority != 0 {
		lines = append(lines, pair("priority", r.Priority))
	}
	return ownTable("repositories", name, append(lines, pairs("enabled", r.Enabled, "exclude", r.Exclude, "includepkgs", r.IncludePkgs, "proxy", r.Proxy,
		"sslcacert", r.SSLCACert, "sslclientcert", r.SSLClientCert, "sslclientkey", r.SSLClientKey, "metadata_expire", r.MetadataExpire,
		"skip_if_unavailable", r.SkipIfUnavailable, "module_hotfixes", r.ModuleHotfixes)...)...)
}

// oneIfSo returns the element of a list of one, and otherwise the list.
func oneIfSo(texts []string) any {
	if len(texts) == 1 {
		return texts[0]
	}
	return texts
}

func (r Repository) absence() (is bool, alone Spec) {
	return r.Ensure == Absent, Repository{Ensure: Absent}
}

// misfit returns a message if values turn one URL into several, or "".
func (r Repository) misfit(put Spec) string {
	with := put.(Repository)
	before, after := append([]string{r.BaseURL, r.Metalink, r.MirrorList}, r.GPGKeys...), append([]string{with.BaseURL, with.Metalink, with.MirrorList}, with.GPGKeys...)
	if slices.ContainsFunc(before, func(text string) bool { return len(urls(text)) != len(urls(after[slices.Index(before, text)])) }) {
		return "a value in a URL holds a blank or a comma, after which another URL would begin; take it out of the value"
	}
	return ""
}

// urls splits a list of URLs as yum and dnf do.
func urls(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
}
