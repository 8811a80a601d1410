#!/bin/sh
# usage: run.sh LIBDIR [PANIC_LIBDIR]
# Compiles and runs the tests of the C edge and of the C++ headers against libflare.so.1 in LIBDIR.
#   PANIC_LIBDIR      a libflare.so.1 built with -tags flarepanic; without it panic_test is
#                     left out
#   FLARE_TEST_MODEL  a bundle or results folder; without it model_test is left out
#   CC, CXX           the compilers; default cc, c++
# Prints one line per test, fails with the first one that fails.
set -eu

lib=$(cd "$1" && pwd)
panic_lib=
if [ $# -gt 1 ]; then panic_lib=$(cd "$2" && pwd); fi
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
CC=${CC:-cc}
CXX=${CXX:-c++}
if [ -n "${FLARE_TEST_MODEL:-}" ]; then
    FLARE_TEST_MODEL=$(cd "$(dirname "$FLARE_TEST_MODEL")" && pwd)/$(basename "$FLARE_TEST_MODEL")
    export FLARE_TEST_MODEL
else
    unset FLARE_TEST_MODEL
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export FLARE_TEST_NETWORK="$here/network" # plans of a small network
export FLARE_TEST_CASCADE="$here/cascade.onnx" # capi/cascade_test.go makes it
strict="-Wall -Wextra -pedantic -Werror -I$root/include"
link="-L$lib -l:libflare.so.1 -lm -ldl -pthread"
export LD_LIBRARY_PATH="$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

# pass NAME COMMAND...: runs a test in an empty folder.
pass() {
    name=$1
    shift
    mkdir "$work/empty"
    if ! (cd "$work/empty" && TMPDIR=$work "$@"); then
        echo "FAIL $name" >&2
        exit 1
    fi
    rm -r "$work/empty"
    echo "ok   $name"
}

pass symbols "$here/symbols.sh" "$lib/libflare.so.1" "$root/include/flare.h"

for test in header_test abi_test; do
    $CC -std=c99 $strict "$here/$test.c" -o "$work/$test.c99" $link
    $CXX -x c++ -std=c++17 $strict "$here/$test.c" -o "$work/$test.cpp17" $link
    for language in c99 cpp17; do
        pass "$test ($language)" "$work/$test.$language" "$here/abi.txt"
    done
done
for constant in $(grep -oE '\bFLARE_[A-Z0-9_]+ +(= )?-?[0-9]' "$root/include/flare.h" | cut -d' ' -f1); do
    grep -q "^$constant " "$here/abi.txt" || { echo "FAIL abi.txt lacks $constant" >&2; exit 1; }
done

for test in load edge evaluate image panic model trainer; do
    $CC -std=gnu11 -g -Wall -Wextra -Werror -I"$root/include" "$here/${test}_test.c" -o "$work/${test}_test" $link
done
# A busy machine may be late twice, not three times.
pass load_test sh -c '"$0" "$1" 2>/dev/null || "$0" "$1" 2>/dev/null || "$0" "$1"' "$work/load_test" "$lib/libflare.so.1"
pass edge_test "$work/edge_test"
pass evaluate_test "$work/evaluate_test"
pass image_test "$work/image_test"
pass trainer_test "$work/trainer_test"
$CXX -std=c++17 $strict -I"$root/bindings/cpp" "$root/bindings/cpp/hpp_test.cpp" -o "$work/hpp_test" $link
pass hpp_test "$work/hpp_test"
for header in flare_image.hpp flare_student.hpp; do
    {
        printf '#include "%s"\nint main() {\n' $header
        sed -n '/^#ifndef/q; s|^//     ||p' "$root/bindings/cpp/$header"
        echo '}'
    } >"$work/example.cpp"
    pass "$header's example compiles" $CXX -std=c++17 $strict -I"$root/bindings/cpp" -fsyntax-only "$work/example.cpp"
done
if [ -n "$panic_lib" ]; then
    pass panic_test env LD_LIBRARY_PATH="$panic_lib" "$work/panic_test"
else
    echo "left out: panic_test (no PANIC_LIBDIR)"
fi
if [ -n "${FLARE_TEST_MODEL:-}" ]; then
    pass model_test "$work/model_test"
else
    echo "left out: model_test and the rest of hpp_test (no FLARE_TEST_MODEL)"
fi
