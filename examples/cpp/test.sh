#!/bin/sh
# usage: test.sh PREFIX
# Builds and runs the C and C++ examples against an installed libflare (PREFIX/include, and lib or
# a folder in it), as its users do: by CMake's find_package, and by pkg-config.
#   FLARE_TEST_MODEL  a bundle or results folder: the examples also segment with it
#   CC, CXX           the compilers; default cc, c++
set -eu

prefix=$(cd "$1" && pwd)
libdir=$(dirname "$(find "$prefix/lib" -name libflare.so | head -n 1)")
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
model=${FLARE_TEST_MODEL:-}

fail() {
    echo "FAIL $1" >&2
    [ ! -f "$work/log" ] || cat "$work/log" >&2
    exit 1
}

# try NAME COMMAND...: runs quietly, shows the output of a failure.
try() {
    name=$1
    shift
    "$@" > "$work/log" 2>&1 || fail "$name"
    echo "ok   $name"
}

# use NAME PROGRAM: what every example must do.
use() {
    try "$1 --version" "$2" --version
    grep -q '^libflare [0-9]' "$work/log" || fail "$1 --version"
    if "$2" "$work/no such model" "$work/in.nii" "$work/out.nii" > "$work/log" 2>&1; then
        fail "$1: a missing model must fail"
    fi
    grep -q 'no such model' "$work/log" || fail "$1: the error must name the missing model"
    echo "ok   $1 with a missing model"
}

try "cmake configures" cmake -S "$here" -B "$work/build" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Release
try "cmake builds" cmake --build "$work/build"
use "example by cmake" "$work/build/segment"

export PKG_CONFIG_PATH="$libdir/pkgconfig"
export LD_LIBRARY_PATH="$libdir${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
flags=$(pkg-config --cflags --libs libflare)
try "C++ example compiles by pkg-config" ${CXX:-c++} -std=c++17 -Wall -Wextra -Werror "$here/segment.cpp" -o "$work/segment_cpp" $flags
use "C++ example by pkg-config" "$work/segment_cpp"
try "C example compiles by pkg-config" ${CC:-cc} -std=c99 -Wall -Wextra -pedantic -Werror "$here/../c/segment.c" -o "$work/segment_c" $flags
use "C example by pkg-config" "$work/segment_c"

if [ -n "$model" ]; then
    try "C++ example segments in memory" "$work/build/segment" "$model"
    grep -q '^label 0: ' "$work/log" || fail "C++ example segments in memory"
    grep -q '"tiles"' "$work/log" || fail "C++ example prints statistics"

    # A NIfTI-1 file of 48 x 40 x 32 voxels: soft tissue, 40 HU.
    python3 -c '
import struct, sys
header = bytearray(352)
struct.pack_into("<i", header, 0, 348)
struct.pack_into("<8h", header, 40, 3, 48, 40, 32, 1, 1, 1, 1)
struct.pack_into("<2h", header, 70, 4, 16)  # int16
struct.pack_into("<4f", header, 76, 1, 4, 4, 5)  # spacing
struct.pack_into("<2f", header, 108, 352, 1)  # offset of the voxels, slope
struct.pack_into("<h", header, 254, 1)  # sform follows
struct.pack_into("<12f", header, 280, -4, 0, 0, 0, 0, -4, 0, 0, 0, 0, 5, 0)
header[344:347] = b"n+1"
sys.stdout.buffer.write(header + struct.pack("<h", 40) * (48 * 40 * 32))
' > "$work/in.nii"
    try "C++ example segments a file" "$work/segment_cpp" "$model" "$work/in.nii" "$work/out_cpp.nii.gz"
    try "C example segments a file" "$work/segment_c" "$model" "$work/in.nii" "$work/out_c.nii.gz"
    try "both give the same labels" cmp "$work/out_cpp.nii.gz" "$work/out_c.nii.gz"
else
    echo "left out: segmenting (no FLARE_TEST_MODEL)"
fi
