#!/usr/bin/env bash
# Puts niivue, which draws the pages of package report, beside this script: as it is
# published (npm, by version and hash; needs node's npm), packed with gzip, with its licence
# and those of the packages inside it. Run it to take another version; the hashes below and
# in page_test.go are then those of the new files.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

version=0.69.0
hash=6e9a6a471b428eb3b258a0086beca9187d95e43a781a39e8a519c6da246af485

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent "@niivue/niivue@$version" >/dev/null)
echo "$hash  $work/niivue-niivue-$version.tgz" | sha256sum --check --quiet ||
	{ echo "fetch.sh: niivue $version is not the file expected: do not use it" >&2 && exit 1; }
tar -xzf "$work/niivue-niivue-$version.tgz" -C "$work" package/dist/niivue.umd.js
gzip -9n <"$work/package/dist/niivue.umd.js" >niivue.umd.js.gz

# The package names its licence, BSD-2-Clause; the text is kept in LICENSE here. Those of the
# packages that are bundled into it come with them.
npm install --silent --ignore-scripts --no-audit --no-fund --prefix "$work/all" "@niivue/niivue@$version"
{
	printf 'niivue %s (BSD-2-Clause), https://github.com/niivue/niivue\n\n' "$version"
	cat LICENSE
	for folder in "$work"/all/node_modules/* "$work"/all/node_modules/@*/*; do
		name=${folder#"$work"/all/node_modules/}
		for licence in "$folder"/[Ll][Ii][Cc][Ee][Nn][CcSs][Ee]*; do
			if [ -f "$licence" ] && [ "$name" != @niivue/niivue ]; then
				printf '\n%s\n%s, part of niivue\n\n' "$(printf '%.0s-' {1..70})" "$name"
				cat "$licence"
				break
			fi
		done
	done
} >LICENSES.txt
ls -l niivue.umd.js.gz LICENSES.txt
