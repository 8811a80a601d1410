#!/usr/bin/env bash
# Makes report.png beside this script: the report of a synthetic CT, as Chromium shows it. Needs
# ./build.sh before it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
build/bin/flare phantom "$work" --size clinical
build/bin/flare segment --model examples/demo/flare13_phantom.onnx "$work/imagesTr/phantom_0000_0000.nii.gz" \
	"$work/labels.nii.gz" --report "$work/report.html"
chromium --headless --no-sandbox --use-angle=swiftshader --enable-unsafe-swiftshader --user-data-dir="$work/profile" \
	--hide-scrollbars --window-size=900,980 --virtual-time-budget=120000 --screenshot="$work/report.png" "file://$work/report.html"
mv "$work/report.png" segment/report/report.png
