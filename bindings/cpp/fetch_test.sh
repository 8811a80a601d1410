#!/bin/sh
# usage: fetch_test.sh PREFIX     after ./build.sh
# Two CMake projects that get libflare by FetchContent: one from an archive of the sources, which it
# builds (with the ONNX Runtime that build/ holds already), and one that takes the libflare installed in
# PREFIX instead.
set -eu

prefix=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# project NAME FETCH: a program that prints the version.
project() {
    mkdir "$work/$1"
    cat > "$work/$1/CMakeLists.txt" << END
cmake_minimum_required(VERSION 3.18)
project(consumer LANGUAGES C CXX)
include(FetchContent)
FetchContent_Declare(flare $2)
FetchContent_MakeAvailable(flare)
add_executable(program program.cpp)
target_compile_features(program PRIVATE cxx_std_17)
target_link_libraries(program PRIVATE flare::flare)
END
    cat > "$work/$1/program.cpp" << 'END'
#include <flare.hpp>
#include <iostream>
int main() {
    std::cout << flare::version() << "\n";
    try {
        flare::devices(); // finds ONNX Runtime beside the library
    } catch (const flare::Error &e) {
        std::cout << e.what() << "\n";
        return 1;
    }
}
END
    shift 2
    if ! { cmake -S "$work/consumer" -B "$work/consumer/build" "$@" && cmake --build "$work/consumer/build"; } > "$work/log" 2>&1 ||
        ! env -u FLARE_ONNXRUNTIME "$work/consumer/build/program"; then
        cat "$work/log" >&2
        exit 1
    fi
}

(cd "$root" && tar -cf "$work/flare.tar" build.sh go.mod go.sum capi segment include bindings examples/flare build/lib/flare-runtime)
project consumer "URL $work/flare.tar SOURCE_SUBDIR bindings/cpp"
[ -e "$work/consumer/build/_deps/flare-src/build/lib/libflare.so.1" ] || { echo "FAIL libflare was not built" >&2; exit 1; }
if cmake --build "$work/consumer/build" | grep -q "Building libflare"; then
    echo "FAIL libflare is built again although nothing has changed" >&2
    exit 1
fi
echo "ok   FetchContent builds libflare from its sources"
rm -r "$work/consumer" "$work/flare.tar"

have=$(cmake --version | sed -n 's/^cmake version //p')
if [ "$(printf '%s\n' "$have" 3.24 | sort -V | head -n 1)" = 3.24 ]; then
    project consumer "URL $work/none.tar SOURCE_SUBDIR bindings/cpp FIND_PACKAGE_ARGS" -DCMAKE_PREFIX_PATH="$prefix"
    echo "ok   FetchContent takes the installed libflare"
else
    echo "left out: FetchContent taking an installed libflare (CMake $have, 3.24 has that)"
fi
