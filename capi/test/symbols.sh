#!/bin/sh
# usage: symbols.sh LIBRARY FLARE_H
# The library's dynamic symbols are exactly the functions of the header, and its SONAME is
# libflare.so.1.
set -eu
export LC_ALL=C
declared=$(sed -n 's/^FLARE_API .*\(flare_[a-z_]*\)(.*/\1/p' "$2" | sort)
defined=$(nm -D --defined-only "$1" | awk '{print $NF}' | sort)
if [ "$declared" != "$defined" ]; then
    echo "symbols.sh: failed: flare.h declares but the library lacks, or the library has too many:" >&2
    printf '%s\n' "$declared" "$defined" | sort | uniq -u >&2
    exit 1
fi
if ! readelf -d "$1" | grep -q 'SONAME.*\[libflare\.so\.1\]'; then
    echo "symbols.sh: failed: SONAME is not libflare.so.1" >&2
    exit 1
fi
