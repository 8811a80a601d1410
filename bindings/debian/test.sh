#!/usr/bin/env bash
# usage: test.sh FOLDER [--installed]
# Checks the packages that ./build.sh deb has put in FOLDER: lintian has nothing to say, and what they
# hold works, from a folder into which they are unpacked, or (--installed) from the system.
#   FLARE_TEST_MODEL  a bundle: the command line also segments with it
set -euo pipefail

folder=$(cd "$1" && pwd)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset FLARE_ONNXRUNTIME FLARE_LIBRARY FLARE_CLI PKG_CONFIG_PATH LD_LIBRARY_PATH # the packages must do without

fail() {
	echo "FAIL $1" >&2
	exit 1
}

[ "$(find "$folder" -name '*.deb' | wc -l)" = 3 ] || fail "three packages were expected in $folder"
options=(--fail-on 'error,warning')
[ "$(id -u)" != 0 ] || options+=(--allow-root)
lintian "${options[@]}" "$folder"/*.deb || fail "lintian"
echo "ok   lintian"

prefix=/usr
if [ "${2:-}" != --installed ]; then
	for package in "$folder"/*.deb; do dpkg-deb -x "$package" "$work/root"; done
	prefix=$work/root/usr
	export PKG_CONFIG_SYSROOT_DIR=$work/root PKG_CONFIG_ALLOW_SYSTEM_LIBS=1 PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1
fi
FLARE_TEST_MODEL='' sh "$here/../../examples/cpp/test.sh" "$prefix"

"$prefix/bin/flare" devices >"$work/devices" || fail "the command line finds ONNX Runtime"
grep -q "flare-runtime/libonnxruntime" "$work/devices" || fail "flare devices: $(cat "$work/devices")"
# Without its libraries, or with broken ones, another device would be taken in silence.
[ "$(uname -m)" != x86_64 ] || grep -q '^openvino  .* available$' "$work/devices" || fail "OpenVINO: $(cat "$work/devices")"
if [ -n "${FLARE_TEST_MODEL:-}" ]; then
	"$prefix/bin/flare" phantom "$work/phantom" 2>"$work/log" &&
		"$prefix/bin/flare" segment -m "$FLARE_TEST_MODEL" "$work"/phantom/imagesTr/*.nii.gz "$work/labels.nii.gz" 2>>"$work/log" ||
		fail "the command line segments: $(cat "$work/log")"
	[ -s "$work/labels.nii.gz" ] || fail "the command line segments"
fi
echo "ok   command line"

page=$prefix/share/man/man1/flare.1.gz
gzip -dc "$page" | grep -q '^.SS flare segment ' || fail "$page lacks flare segment"
if command -v man >/dev/null; then
	found=$(LC_ALL=C.UTF-8 MANROFFSEQ='' man --warnings -l "$page" 2>&1 >/dev/null) || fail "man: $found"
	[ -z "$found" ] || fail "man: $found"
	echo "ok   manual page"
fi
bash -n "$prefix/share/bash-completion/completions/flare" || fail "bash does not take the completion"
echo "ok   completion"
