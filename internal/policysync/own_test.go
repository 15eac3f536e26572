package policysync_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file that a user could have written is not read, and its last accepted version stays.
func TestALayerThatOthersCouldHaveWrittenCountsAsUnknown(t *testing.T) {
	const local, fragment = "etc/soe-agent/policy.d", "etc/soe-agent/policy.d/90-glass.toml"
	chmod := func(name string, mode os.FileMode) func(d *desktop) error {
		return func(d *desktop) error { return os.Chmod(filepath.Join(d.root, name), mode) }
	}
	chown := func(name string) func(d *desktop) error {
		return func(d *desktop) error { return os.Lchown(filepath.Join(d.root, name), 1000, 1000) }
	}
	link := func(target, name string) func(d *desktop) error {
		return func(d *desktop) error {
			file := filepath.Join(d.root, name)
			if err := os.RemoveAll(file); err != nil {
				return err
			}
			return os.Symlink(target, file)
		}
	}
	for name, scene := range map[string]struct {
		spoil func(d *desktop) error
		says  string
	}{
		"a directory for all":                {chmod(local, 0o777), "/" + local},
		"a directory for a group":            {chmod(local, 0o775), "/" + local},
		"a directory like /tmp":              {chmod(local, 0o777|os.ModeSticky), "/" + local},
		"a user's directory":                 {chown(local), "/" + local},
		"a directory above it":               {chmod("etc/soe-agent", 0o777), "/etc/soe-agent"},
		"a user's directory above it":        {chown("etc/soe-agent"), "/etc/soe-agent"},
		"a fragment for all":                 {chmod(fragment, 0o666), "/" + fragment},
		"a fragment for a group":             {chmod(fragment, 0o664), "/" + fragment},
		"a user's fragment":                  {chown(fragment), "/" + fragment},
		"a link to a user's fragment":        {link("/home/u/glass.toml", fragment), "/home/u"},
		"a link to a user's directory":       {link("../../home/u/policy.d", local), "/home/u"},
		"a user's link":                      {func(d *desktop) error { return firstOf(link("/etc/mine.toml", fragment)(d), chown(fragment)(d)) }, "/" + fragment},
		"a seed for all":                     {chmod("usr/share/soe-agent/policy.d", 0o777), "/usr/share/soe-agent/policy.d"},
		"a seed's fragment that is a user's": {chown("usr/share/soe-agent/policy.d/10-seed.toml"), "10-seed.toml"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesktop(t)
			d.write(t, fragment, dropin("glass", "before"))
			d.subject.Path = ""
			if err := d.KeepOwn(d.subject); err != nil {
				t.Fatal(err)
			}
			d.write(t, "home/u/glass.toml", dropin("glass", "evil"))
			d.write(t, "home/u/policy.d/90-glass.toml", dropin("glass", "evil"))
			d.write(t, "etc/mine.toml", dropin("glass", "evil"))
			if err := chown("home/u")(d); err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(name, "a seed") {
				d.write(t, fragment, dropin("glass", "evil"))
			}
			if err := scene.spoil(d); err != nil {
				t.Fatal(err)
			}
			known, err := d.Known(d.subject)
			if err != nil {
				t.Fatal(err)
			}
			if got := contents(known.Policy); got["glass"] != "before" || got["seed"] != "from the image" || !known.Policy.Partial {
				t.Errorf("there is %v, and that may be all: %v", got, !known.Policy.Partial)
			}
			if len(known.Refused) != 1 || !strings.Contains(known.Refused[0].Whole, scene.says) {
				t.Errorf("it says %q", known.Refused)
			}
			d.subject.Path = path // and where a policy is published
			d.everywhere(t, 1, map[string]string{"10-base": dropin("base", "published")})
			found, got := d.follows(t)
			if got["glass"] != "before" || got["seed"] != "from the image" || got["base"] != "published" || !found.Policy.Partial {
				t.Errorf("with what is published there is %v, and that may be all: %v", got, !found.Policy.Partial)
			}
			if len(found.Refused) != 1 || !strings.Contains(found.Refused[0].Whole, scene.says) {
				t.Errorf("with what is published it says %q", found.Refused)
			}
		})
	}
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
