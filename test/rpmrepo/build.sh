#!/bin/bash
# build.sh OUT - makes a signed RPM repository of small packages in the new folder OUT.
#
# soe-pkg-01 … soe-pkg-40   in versions 1.0-1 and 2.0-1, with a configuration file in /etc
# soe-dep                   requires soe-pkg-01 >= 2.0
# soe-nodep                 requires what nothing provides
# soe-conflict              conflicts with soe-pkg-02
# soe-badpre, soe-badpost   %pre or %post fails
# soe-slow                  %post makes /run/soe-slow.started, then waits for /run/soe-slow.release, a minute at most
# soe-unsigned              has no signature
# soe-wrongkey              is signed with RPM-GPG-KEY-foreign
# soe-service               brings soe-service.service
# soe-sudoers               brings a grant in /etc/sudoers.d
# soe-group                 the group "SOE Group": soe-pkg-31 and soe-pkg-32 are mandatory, soe-pkg-33 comes by default
# soe-pkg-34                its version 2.0 mends a hole, says an advisory
# workspaces-tool           is protected by its name
# soe-usurper               takes the place of workspaces-tool
# soe-account               its %pre makes the user soe-account with the next free system UID
# soe-multi                 in versions 1.0-1 and 2.0-1, each for x86_64 and for i686
# soe-lone                  for i686 alone
# soe-side                  in two versions that are installed side by side
# kernel-soe-doc            in two versions that are not, whatever the name
# soe-provider              provides soe-virtual
#
# All others are signed with RPM-GPG-KEY-soe-test, whose fingerprint is in the file "fingerprint".
# The private keys are thrown away.
# Needs rpmbuild, rpmsign, createrepo_c and gpg; no network.
set -euo pipefail
out=$1
work=$(mktemp -d)
export GNUPGHOME=$work/gnupg
trap 'gpgconf --kill gpg-agent 2>/dev/null || true; rm -rf "$work"' EXIT
mkdir -p "$out"
mkdir -m 700 "$GNUPGHOME"

# gzip and SHA-256, because rpm 4.11 of Amazon Linux 2 knows nothing newer.
define=(--define "__gpg $(command -v gpg)" --define "_topdir $work" --define '_build_id_links none'
  --define '_binary_payload w3.gzdio' --define '_binary_filedigest_algorithm 8' --define '_source_filedigest_algorithm 8')

head_of() { # NAME VERSION
  printf 'Name: %s\nVersion: %s\nRelease: 1\nSummary: Test packages\nLicense: Apache-2.0\nBuildArch: noarch\n%%description\nTest packages.\n' "$1" "$2"
}

package() { # NAME [HEADER-LINE…]
  local name=$1
  shift
  printf '%%package -n %s\nSummary: Test package %s\n' "$name" "$name"
  [ $# -eq 0 ] || printf '%s\n' "$@"
  printf '%%description -n %s\nTest package.\n' "$name"
}

build() { # SPEC
  rpmbuild -bb --quiet "${define[@]}" "$1" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
}

for version in 1.0 2.0; do
  {
    head_of soe-pkg "$version"
    for i in $(seq -w 1 40); do package "soe-pkg-$i"; done
    cat <<'SPEC'
%install
for i in $(seq -w 1 40); do
  n=soe-pkg-$i
  mkdir -p %{buildroot}/opt/$n %{buildroot}/etc/$n
  echo "$n %{version}" >%{buildroot}/opt/$n/version
  echo "value=%{version}" >%{buildroot}/etc/$n/$n.conf
done
SPEC
    for i in $(seq -w 1 40); do
      printf '%%files -n soe-pkg-%s\n/opt/soe-pkg-%s/version\n%%config(noreplace) /etc/soe-pkg-%s/soe-pkg-%s.conf\n' "$i" "$i" "$i" "$i"
    done
  } >"$work/pkg.spec"
  build "$work/pkg.spec"
done

{
  head_of soe-odd 1.0
  package soe-dep 'Requires: soe-pkg-01 >= 2.0'
  package soe-nodep 'Requires: does-not-exist'
  package soe-conflict 'Conflicts: soe-pkg-02'
  package soe-usurper 'Obsoletes: workspaces-tool < 9'
  for name in workspaces-tool soe-badpre soe-badpost soe-slow soe-unsigned soe-wrongkey soe-service soe-sudoers soe-account; do package "$name"; done
  cat <<'SPEC'
%install
mkdir -p %{buildroot}/usr/lib/systemd/system %{buildroot}/etc/sudoers.d
cat >%{buildroot}/usr/lib/systemd/system/soe-service.service <<'UNIT'
[Unit]
Description=Test service

[Service]
ExecStart=/bin/sleep infinity

[Install]
WantedBy=multi-user.target
UNIT
echo 'user ALL=(ALL) NOPASSWD: ALL' >%{buildroot}/etc/sudoers.d/zz-soe-sudoers
%pre -n soe-badpre
exit 3
%post -n soe-badpost
exit 4
%post -n soe-slow
: >/run/soe-slow.started
for i in $(seq 600); do [ ! -e /run/soe-slow.release ] || exit 0; sleep 0.1; done
%pre -n soe-account
getent passwd soe-account >/dev/null || useradd --system --shell /sbin/nologin soe-account
%files -n soe-dep
%files -n soe-nodep
%files -n soe-conflict
%files -n workspaces-tool
%files -n soe-usurper
%files -n soe-badpre
%files -n soe-badpost
%files -n soe-slow
%files -n soe-unsigned
%files -n soe-wrongkey
%files -n soe-service
/usr/lib/systemd/system/soe-service.service
%files -n soe-sudoers
%attr(0440, root, root) /etc/sudoers.d/zz-soe-sudoers
%files -n soe-account
SPEC
} >"$work/odd.spec"
build "$work/odd.spec"
for version in 1.0 2.0; do
  {
    head_of soe-kernel "$version"
    package soe-side 'Provides: installonlypkg(kernel)'
    package kernel-soe-doc
    printf '%%install\nmkdir -p %%{buildroot}/opt/soe-side\necho >%%{buildroot}/opt/soe-side/%%{version}\n'
    printf '%%files -n soe-side\n/opt/soe-side/%%{version}\n%%files -n kernel-soe-doc\n'
    [ "$version" = 2.0 ] || printf '%%package -n soe-provider\nSummary: Provider\nProvides: soe-virtual\n%%description -n soe-provider\nProvider.\n%%files -n soe-provider\n'
  } >"$work/kernel.spec"
  build "$work/kernel.spec"
  # What is of two architectures differs in the class of its programs: here the head of one.
  for arch in x86_64 i686; do
    case $arch in x86_64) class='\002' ;; *) class='\001' ;; esac
    { printf '\177ELF%b\001\001' "$class"; head -c 57 /dev/zero; } >"$work/$arch.elf"
    {
      printf '%%global __os_install_post %%{nil}\n%%global debug_package %%{nil}\n'
      head_of soe-multi "$version" | sed '/^BuildArch/d; s/^%description/AutoReqProv: no\n&/'
      printf '%%install\ninstall -D %s %%{buildroot}/opt/soe-multi/%s\n%%files\n/opt/soe-multi/%s\n' "$work/$arch.elf" "$arch" "$arch"
      [ "$arch$version" != i6861.0 ] || printf '%%package -n soe-lone\nSummary: Lone\n%%description -n soe-lone\nLone.\n%%files -n soe-lone\n'
    } >"$work/multi.spec"
    rpmbuild -bb --quiet --target "$arch" "${define[@]}" "$work/multi.spec" >"$work/log" 2>&1 || { cat "$work/multi.spec" "$work/log" >&2; exit 1; }
  done
done
mv "$work"/RPMS/*/*.rpm "$out/"

new_key() { # NAME: makes a key and exports it as RPM-GPG-KEY-NAME
  gpg --batch --quiet --pinentry-mode loopback --passphrase '' --quick-gen-key "$1 <$1@example.com>" rsa2048 sign never 2>/dev/null
  gpg --armor --export "$1@example.com" >"$out/RPM-GPG-KEY-$1"
}
sign() { # NAME FILE…
  local name=$1
  shift
  rpmsign --define "__gpg $(command -v gpg)" --define "_gpg_name $name@example.com" --addsign "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
}
new_key soe-test
new_key foreign
good=()
for file in "$out"/*.rpm; do
  case ${file##*/} in
  soe-unsigned-*) ;;
  soe-wrongkey-*) sign foreign "$file" ;;
  *) good+=("$file") ;;
  esac
done
sign soe-test "${good[@]}"
gpg --batch --quiet --no-auto-check-trustdb --with-colons --list-keys soe-test@example.com | awk -F: '/^fpr/ {print $10; exit}' >"$out/fingerprint"

cat >"$work/comps.xml" <<'XML'
<?xml version="1.0" encoding="UTF-8"?>
<comps><group><id>soe-group</id><name>SOE Group</name><default>false</default><uservisible>true</uservisible><packagelist>
<packagereq type="mandatory">soe-pkg-31</packagereq><packagereq type="mandatory">soe-pkg-32</packagereq><packagereq type="default">soe-pkg-33</packagereq>
</packagelist></group></comps>
XML
cat >"$work/updateinfo.xml" <<'XML'
<?xml version="1.0" encoding="UTF-8"?>
<updates><update from="soe@example.com" status="final" type="security" version="1"><id>SOE-2026-0001</id><title>A hole</title>
<severity>Important</severity><issued date="2026-01-05 09:00:00"/><references/><description>A hole.</description>
<pkglist><collection short="soe"><name>soe</name>
<package name="soe-pkg-34" epoch="0" version="2.0" release="1" arch="noarch" src="soe-pkg-2.0-1.src.rpm"><filename>soe-pkg-34-2.0-1.noarch.rpm</filename></package>
</collection></pkglist></update></updates>
XML
createrepo_c --quiet --simple-md-filenames --groupfile "$work/comps.xml" "$out"
modifyrepo_c --simple-md-filenames "$work/updateinfo.xml" "$out/repodata" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
