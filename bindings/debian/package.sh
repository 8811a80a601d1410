#!/usr/bin/env bash
# usage: package.sh FOLDER VERSION     (./build.sh deb calls it)
# Makes the packages of control in FOLDER, of the files that lie in FOLDER/all as they shall lie
# in the system.
set -euo pipefail

folder=$(cd "$1" && pwd) version=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
export SOURCE_DATE_EPOCH
SOURCE_DATE_EPOCH=$(dpkg-parsechangelog -l "$here/changelog" -S Timestamp)
found=$(dpkg-parsechangelog -l "$here/changelog" -S Version)
[ "$found" = "$version" ] || { echo "$here/changelog begins with version $found, expected $version" >&2; exit 1; }

cd "$folder"
umask 022
libdir=$(cd all && echo usr/lib/*-linux-*)
# What dpkg's tools expect around them.
mkdir -p work/debian
cp "$here/control" "$here/changelog" work/debian/

# take PACKAGE PATH..: moves files of all/ to the package.
take() {
	local package=$1 path
	shift
	for path in "$@"; do
		mkdir -p "$package/$(dirname "$path")"
		mv "all/$path" "$package/$path"
	done
}

# shlibdeps PACKAGE FILE..: finds the packages that the programs need.
shlibdeps() {
	local package=$1
	shift
	mkdir -p "$package/DEBIAN"
	# What it would warn of is how the makers of the runtime have linked it.
	(cd work && dpkg-shlibdeps --warnings=1 -Tsubstvars."$package" -l"$folder/libflare1/$libdir/flare-runtime" \
		-xlibflare1 "${@/#/-e}")
}

# finish PACKAGE: documents, control files, the package itself.
finish() {
	local package=$1 doc=$1/usr/share/doc/$1
	mkdir -p "$doc" "$package/DEBIAN"
	cp "$here/copyright" "$doc/"
	gzip -9n <"$here/changelog" >"$doc/changelog.gz"
	find "$package" -type d -exec chmod 755 {} +
	find "$package" -type f ! -path '*/bin/*' -exec chmod 644 {} +
	(cd "$package" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)
	(cd work && touch "substvars.$package" &&
		dpkg-gencontrol -p"$package" -P"$folder/$package" -Tsubstvars."$package" -O >"$folder/$package/DEBIAN/control")
	find "$package" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
	dpkg-deb --root-owner-group -Zxz -z1 --build "$package" .
}

gzip -9n all/usr/share/man/man1/flare.1
take libflare1 "$libdir/libflare.so.1" "$libdir/flare-runtime"
take libflare-dev "$libdir/libflare.so" "$libdir/cmake" "$libdir/pkgconfig" usr/include
take libflare-tools usr/bin usr/share
rmdir -p "all/$libdir" # nothing is left

# The library: dpkg and the loader are told of it; licences of what comes along.
mkdir -p libflare1/DEBIAN libflare1/usr/share/doc/libflare1
mv "libflare1/$libdir/flare-runtime/ThirdPartyNotices.txt" libflare1/usr/share/doc/libflare1/onnxruntime-notices.txt
rm "libflare1/$libdir/flare-runtime/LICENSE" # it is in copyright
strip --strip-unneeded "libflare1/$libdir"/flare-runtime/*
gzip -9n libflare1/usr/share/doc/libflare1/onnxruntime-notices.txt
echo "libflare 1 libflare1 (>= $version)" >libflare1/DEBIAN/shlibs
echo "activate-noawait ldconfig" >libflare1/DEBIAN/triggers
shlibdeps libflare1 "$folder/libflare1/$libdir/libflare.so.1" "$folder/libflare1/$libdir"/flare-runtime/*.so*
finish libflare1

mkdir -p libflare-dev/usr/share/doc/libflare-dev/examples
for example in c cpp itk vtk; do
	mkdir "libflare-dev/usr/share/doc/libflare-dev/examples/$example"
	find "$root/examples/$example" -maxdepth 1 \( -name '*.c' -o -name '*.cpp' -o -name CMakeLists.txt \) \
		-exec cp -t "libflare-dev/usr/share/doc/libflare-dev/examples/$example" {} +
done
finish libflare-dev

# The program looks for ONNX Runtime in ../lib/flare-runtime.
mkdir -p libflare-tools/usr/lib
ln -s "${libdir#usr/lib/}/flare-runtime" libflare-tools/usr/lib/flare-runtime
shlibdeps libflare-tools "$folder/libflare-tools/usr/bin/flare"
finish libflare-tools
rm -r work
