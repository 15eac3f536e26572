#!/bin/bash
# moto.sh [PORT] - runs moto, an emulator of AWS that this project did not write, on PORT of loopback
# (0: a free one, see its log on standard error). Without PORT it only prepares.
#
# Debian 12 has no package of moto, Debian 13 has, and it is pure Python: so that package is unpacked into
# $SOE_TEST_CACHE (/var/cache/soe-agent-test), not installed, and run with the host's own Python. The
# Debian packages that it needs are installed if they are missing: that takes root and half a minute, once.
# What is there already costs nothing. SSM and Secrets Manager work; what it lacks is in test/awscontract.
set -euo pipefail
suite=trixie
cache=${SOE_TEST_CACHE:-/var/cache/soe-agent-test}
moto=$cache/moto-$(sha256sum "${BASH_SOURCE[0]}" | cut -c 1-12)
needed=(python3-boto3 python3-botocore python3-werkzeug python3-flask python3-flask-cors python3-responses
  python3-xmltodict python3-jinja2 python3-requests python3-cryptography python3-dateutil)

fail() {
  printf 'moto.sh: cannot prepare moto: %s\n' "$*" >&2
  exit 1
}

install_needed() {
  local package missing=()
  for package in "${needed[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
  done
  if [ ${#missing[@]} -eq 0 ]; then return; fi
  [ "$(id -u)" = 0 ] || fail "root is needed to install ${missing[*]}; run: sudo test/moto.sh"
  echo "Debian packages: installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q >/dev/null
  apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null || fail "apt-get could not install ${missing[*]}"
}

# unpack DIR leaves the package's files in DIR. It uses apt lists of its own: the host's are not touched.
unpack() {
  local dir=$1 apt=$1/apt options mirror
  # shellcheck disable=SC2016 # $(SITE) is for apt
  mirror=$(apt-get indextargets --format '$(SITE)' 'Origin: Debian' 2>/dev/null | awk '!/security/ && !site { site = $0 } END { print site }')
  [ -n "$mirror" ] || mirror=http://deb.debian.org/debian
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
  printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$mirror" "$suite" >"$apt/sources.list"
  options=(-o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$apt/lists"
    -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root)
  apt-get "${options[@]}" -q update >&2 || fail "apt could not read $suite from $mirror"
  (cd "$apt" && apt-get "${options[@]}" -q download python3-moto >&2) || fail "there is no python3-moto in $suite"
  dpkg-deb -x "$apt"/python3-moto_*.deb "$dir"
  rm -rf "$apt"
}

mkdir -p "$cache"
install_needed
if [ ! -d "$moto" ]; then
  work=$(mktemp -d "$cache/moto.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  unpack "$work"
  chmod 755 "$work"
  # Another run may have been first.
  mv -T "$work" "$moto" 2>/dev/null || [ -d "$moto" ]
  find "$cache" -mindepth 1 -maxdepth 1 -name 'moto*' ! -path "$moto" -mtime +30 -exec rm -rf {} +
fi
touch "$moto" 2>/dev/null || true # in use: what was not for a month is removed
if [ $# -gt 0 ]; then
  # Not the python3 that comes first in PATH: it may not have Debian's modules.
  PYTHONPATH=$moto/usr/lib/python3/dist-packages exec /usr/bin/python3 "$moto/usr/bin/moto_server" -H 127.0.0.1 -p "$1"
fi
