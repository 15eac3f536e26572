package sudotext

import (
	"maps"
	"slices"
	"testing"
)

func TestAnAliasThatShutsSomebodyOutIsKnownHoweverDeepThatIs(t *testing.T) {
	aliases := map[string][]Subject{}
	for _, line := range Parse([]byte("User_Alias PLAIN = alice, %admins : SHUTS = alice, !bob : OUTER = carol, SHUTS : OUTMOST = PLAIN, OUTER : FIRST = SHUTS, alice : TWICE = !!bob\n" +
		"User_Alias CIRCLE = LOOP : LOOP = CIRCLE\n")) {
		maps.Copy(aliases, line.Aliases)
	}
	var shuts []string
	for _, name := range slices.Sorted(maps.Keys(aliases)) {
		if (Subject{Form: Named, Name: name}).ShutsOut(aliases) {
			shuts = append(shuts, name)
		}
		if (Subject{Form: User, Name: name}).ShutsOut(aliases) || (Subject{Form: Group, Name: name}).ShutsOut(aliases) {
			t.Errorf("a user or group of the name %s is taken for the alias", name)
		}
	}
	if want := []string{"CIRCLE", "FIRST", "LOOP", "OUTER", "OUTMOST", "SHUTS"}; !slices.Equal(shuts, want) { // of a circle nobody can tell
		t.Errorf("%v shut somebody out, and %v do", shuts, want)
	}
	if (Subject{Form: Named, Name: "UNKNOWN"}).ShutsOut(aliases) {
		t.Error("what is no alias shuts somebody out")
	}
}

func TestASubjectIsWrittenAsItIsRead(t *testing.T) {
	for _, written := range []string{
		"bob", "!bob", "%wheel", "!%wheel", "#1000", "!#1000", "%#10", "!%#10", "+net", "!+net", `"%:far"`, `!"%:far"`, "ALL", "!ALL", "OPS", "!OPS", `%EXAMPLE\\Domain\ Admins`, `!\x42OB`,
	} {
		line := Parse([]byte(written + " ALL = ALL"))[0]
		if line.Sort != Grant || len(line.Users) != 1 || line.Users[0].String() != written {
			t.Errorf("%s is written %v", written, line.Users)
		}
	}
}
