#!/bin/sh
# Says how to get Go when it is missing or too old for go.mod.
want=$(sed -n 's/^go //p' "$(dirname "$0")/../go.mod")
if ! command -v go >/dev/null; then
	echo "Go $want or later is missing. Get it from https://go.dev/dl/ and put its bin folder into PATH." >&2
	exit 1
fi
have=$(go env GOVERSION | sed 's/^go//')
if [ "$(printf '%s\n%s\n' "$want" "$have" | sort -V | head -n 1)" != "$want" ]; then
	echo "Go $have is too old: this needs $want or later. Get it from https://go.dev/dl/" >&2
	exit 1
fi
