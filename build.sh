#!/usr/bin/env bash
# Builds, shows, tests and measures libflare. Everything made goes to build/.
set -euo pipefail

from=$PWD # where the caller's relative paths start
cd "$(dirname "${BASH_SOURCE[0]}")"
root=$PWD
python=${PYTHON:-python3}
version=$(sed -n 's/^const Version = "\(.*\)"$/\1/p' segment/segment.go)
work=build/.work.$$ # things half made; of this run alone, as two may run at once
trap 'rm -rf "$work"' EXIT

usage() {
	cat <<-'END'
		usage: ./build.sh [COMMAND]

		  build [--cuda]       the library, the command line, CMake and pkg-config files (default);
		        [--intel-gpu]  with an ONNX Runtime for NVIDIA GPUs (4 GB while it is fetched), with
		                       OpenVINO's part for Intel GPUs
		  wheel                a Python package that needs nothing else: build/wheel/libflare-*.whl,
		                       checked, and tried in a fresh environment
		  demo [CT MODEL]      segments a synthetic CT, or yours, and shows what came out
		  install PREFIX       library, headers, CMake and pkg-config files, command line, manual page, completion
		  deb                  the same as Debian packages, in build/deb
		  test                 builds, then runs every test
		  bench [--help | ..]  seconds by phase, peak memory, nnU-Net beside it; limits
		  clean                removes build/
		  help                 this text
	END
}

fail() {
	printf 'build.sh: %s\n' "$*" >&2
	exit 1
}

# -------------------------------------------------------------- what it needs ---

# Where the ONNX Runtime of this platform comes from: a Python package, because
# that is one download by name, version and hash, and the same on every platform.
# The version is the one whose C interface onnxruntime_go speaks.
choose_platform() {
	lib=libflare.so.1 link=libflare.so libraries='libonnxruntime.so.* libonnxruntime_providers_shared.so'
	case "$(uname -s)-$(uname -m)" in
	Linux-x86_64)
		package=onnxruntime-openvino==1.24.1 tag=manylinux_2_28_x86_64
		hash=3007c803634cc69c6d52af1dea7ce729d9bb62b9a11070fd2f959119199007a8
		# Of the three identical copies of each OpenVINO library, the name that the others ask for.
		libraries+=' libonnxruntime_providers_openvino.so libopenvino.so.2541 libopenvino_onnx_frontend.so.2541'
		libraries+=' libopenvino_intel_cpu_plugin.so libtbb.so.12'
		;;
	Linux-aarch64)
		package=onnxruntime==1.24.1 tag=manylinux_2_28_aarch64
		hash=86bc43e922b1f581b3de26a3dc402149c70e5542fceb5bec6b3a85542dbeb164
		;;
	Darwin-arm64)
		lib=libflare.1.dylib link=libflare.dylib libraries='libonnxruntime.*.dylib'
		package=onnxruntime==1.24.1 tag=macosx_14_0_arm64
		hash=79b3119ab9f4f3817062e6dbe7f4a44937de93905e3a31ba34313d18cb49e7be
		;;
	Darwin-x86_64) fail "ONNX Runtime 1.24 does not exist for Macs with Intel processors" ;;
	MINGW* | MSYS* | CYGWIN*) fail "Windows comes later; for now build in WSL" ;;
	*) fail "no ONNX Runtime is known for $(uname -s) on $(uname -m)" ;;
	esac
}

missing=
lacks() { missing+="  $1"$'\n'"      Debian, Ubuntu: $2"$'\n'"      Fedora: $3"$'\n'"      macOS: $4"$'\n'; }

# True if version $1 is at least version $2.
at_least() { [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$2" ]; }

check_tools() {
	local want have
	want=$(awk '$1 == "go" {print $2}' go.mod)
	have=$(go env GOVERSION 2>/dev/null || true)
	at_least "${have#go}" "$want" ||
		lacks "Go $want or newer (found: ${have:-none}); from go.dev/dl, or, as any Go since 1.21 fetches $want itself:" \
			"apt install golang" "dnf install golang" "brew install go"
	if ! command -v "$(go env CC 2>/dev/null || echo cc)" || ! command -v "$(go env CXX 2>/dev/null || echo c++)"; then
		lacks "a C and C++ compiler:" "apt install build-essential" "dnf install gcc gcc-c++" "xcode-select --install"
	fi >/dev/null
	"$python" -m pip --version >/dev/null 2>&1 ||
		lacks "Python 3 with pip:" "apt install python3-pip" "dnf install python3-pip" "brew install python"
	[ -z "$missing" ] || fail "this machine lacks"$'\n'"${missing%$'\n'}"
}

say() { printf '%-8s %s\n' "$1" "$2"; }

# ------------------------------------------------------------------- building ---

# fetch_wheel FOLDER PACKAGE HASH TAG PATTERN..: puts the files of a Python package whose
# names match into the folder.
#
# A process may hold another ONNX Runtime and another OpenVINO, such as Python's. The loader
# takes for a library what was loaded under its name, whoever's it is, and the providers of ONNX
# Runtime, libraries of their own, serve the runtime whose Provider_GetHost is the process's
# first: with `import onnxruntime` before ours the process crashed, and OpenVINO of the same
# version, built otherwise, did not load. So what we fetch is given names of its own, in place:
# as long as before, and the symbol's with the same value in the table of hashes (GNU's).
fetch_wheel() {
	local folder=$1 package=$2 hash=$3 tag=$4
	shift 4
	say runtime "fetching $package"
	echo "$package --hash=sha256:$hash" >"$work/requirements.txt"
	"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
		--implementation cp --python-version 311 --abi cp311 --platform "$tag" \
		--require-hashes -r "$work/requirements.txt" -d "$work" ||
		fail "pip could not fetch $package; see above. (A hash that differs means that the file is not the one expected: do not use it.)"
	"$python" - "$work"/*.whl "$folder" "$@" <<-'END'
		import fnmatch, os, sys, zipfile
		frontend = b"libopenvino_onnx_frontend.so.2541"
		names = {b"libopenvino.so.2541": b"libflareovn.so.2541", b"libtbb.so.12": b"libtbf.so.12"}
		def ours(base, data):
		    new = {**names, b"Provider_GetHost": b"Provider_GetHotS", frontend: b"libflareovn_onnx_frontend.so.2541"}
		    if base == "libonnxruntime_providers_openvino.so": # asks for the frontend, and takes nothing of it
		        new[frontend] = names[b"libopenvino.so.2541"].ljust(len(frontend), b"\0")
		    for old in new:
		        data = data.replace(b"\0" + old + b"\0", b"\0" + new[old] + b"\0")
		    return data
		wheel, folder, wanted = zipfile.ZipFile(sys.argv[1]), sys.argv[2], sys.argv[3:]
		for pattern in wanted:
		    found = [n for n in wheel.namelist() if fnmatch.fnmatch(n.rsplit("/", 1)[-1], pattern)]
		    if not found:
		        sys.exit(f"build.sh: {sys.argv[1]} holds no {pattern}")
		    for name in found:
		        base = os.path.basename(name)
		        if base == "License.txt": # each of NVIDIA's packages has its own
		            base = os.path.basename(sys.argv[1]).split("-")[0] + "-" + base
		        data = wheel.read(name)
		        if base.startswith(("libopenvino", "libonnxruntime_providers_", "libtbb")):
		            was, data = data, ours(base, data)
		            if data == was:
		                sys.exit(f"build.sh: {base} holds none of the names that are to be ours")
		            base = names.get(base.encode(), base.encode()).decode()
		        with open(os.path.join(folder, base), "wb") as dst:
		            dst.write(data)
	END
	rm -f "$work"/*.whl
}

renamed='names of our own' # part of what a finished fetch is known by

# Fetches ONNX Runtime once. The stamp is the last thing written before the folder
# gets its name, so an interrupted fetch is begun again.
fetch_runtime() {
	local runtime=build/lib/flare-runtime
	if [ "$(cat $runtime/.fetched 2>/dev/null)" = "$package $hash $libraries $renamed" ]; then return; fi
	local patterns
	read -ra patterns <<<"$libraries LICENSE ThirdPartyNotices.txt"
	mkdir -p "$work/lib" build/lib
	fetch_wheel "$work/lib" "$package" "$hash" "$tag" "${patterns[@]}"
	echo "$package $hash $libraries $renamed" >"$work/lib/.fetched"
	rm -rf $runtime
	mv "$work/lib" $runtime
}

# The runtime for NVIDIA GPUs: the same ONNX Runtime built with CUDA, CUDA's libraries as
# NVIDIA packs them for Python (2.5 GB), and OpenVINO from the runtime above, so that it
# runs on processors as well. package, hash, platform, files.
cuda_packages='onnxruntime-gpu==1.24.1 ac4bfc90c376516b13d709764ab257e4e3d78639bf6a2ccfc826e9db4a5c7ddf manylinux_2_28_x86_64 libonnxruntime.so.* libonnxruntime_providers_shared.so libonnxruntime_providers_cuda.so LICENSE ThirdPartyNotices.txt
nvidia-cuda-runtime-cu12==12.8.90 adade8dcbd0edf427b7204d480d6066d33902cab2a4707dcfc48a2d0fd44ab90 manylinux2014_x86_64 libcudart.so.12 License.txt
nvidia-cublas-cu12==12.8.4.1 8ac4e771d5a348c551b2a426eda6193c19aa630236b418086020df5ba9667142 manylinux_2_27_x86_64 libcublas.so.12 libcublasLt.so.12 License.txt
nvidia-cufft-cu12==11.3.3.83 4d2dd21ec0b88cf61b62e6b43564355e5222e4a3fb394cac0db101f2dd0d4f74 manylinux2014_x86_64 libcufft.so.11 License.txt
nvidia-curand-cu12==10.3.9.90 b32331d4f4df5d6eefa0554c565b626c7216f87a06a4f56fab27c3b68a830ec9 manylinux_2_27_x86_64 libcurand.so.10 License.txt
nvidia-nvjitlink-cu12==12.8.93 81ff63371a7ebd6e6451970684f916be2eab07321b73c9d244dc2b4da7f73b88 manylinux2014_x86_64 libnvJitLink.so.12 License.txt
nvidia-cuda-nvrtc-cu12==12.8.93 a7756528852ef889772a84c6cd89d41dfa74667e24cca16bb31f8f061e3e9994 manylinux2014_x86_64 libnvrtc.so.12 libnvrtc-builtins.so.12.8 License.txt
nvidia-cudnn-cu12==9.10.2.21 949452be657fa16687d0930933f032835951ef0892b37d2d53824d1a84dc97a8 manylinux_2_27_x86_64 libcudnn*.so.9 License.txt'

fetch_cuda() {
	local runtime=build/lib/flare-runtime-cuda stamp="$cuda_packages $package $libraries $renamed" fields file
	if [ "$(cat $runtime/.fetched 2>/dev/null)" = "$stamp" ]; then return; fi
	[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || fail "--cuda is for Linux on x86-64"
	mkdir -p "$work/cuda" build/lib
	while read -ra fields; do
		fetch_wheel "$work/cuda" "${fields[@]}"
	done <<<"$cuda_packages"
	for file in build/lib/flare-runtime/lib*; do
		[ -e "$work/cuda/${file##*/}" ] || ln "$file" "$work/cuda/" 2>/dev/null || cp "$file" "$work/cuda/"
	done
	echo "$stamp" >"$work/cuda/.fetched"
	rm -rf $runtime
	mv "$work/cuda" $runtime
}

# The same bytes come out wherever the source lies: no paths, no debug information.
go_build() { go build -trimpath -buildvcs=false "$@"; }

# build_program NAME PACKAGE
build_program() {
	say program "build/bin/$1"
	mkdir -p build/bin "$work"
	go_build -buildmode=pie -ldflags '-s -w -buildid=' -o "$work/$1" "$2"
	mv "$work/$1" "build/bin/$1" # not written over: it may be running
}

# build_library FOLDER [FLAG..]
build_library() {
	local dir=$1 linker="-Wl,-soname,$lib \"-Wl,--version-script=$root/capi/flare.map\""
	shift
	say library "$dir/$lib"
	mkdir -p "$dir" "$work"
	if [ "$(uname -s)" = Darwin ]; then
		echo '_flare_*' >"$work/symbols"
		linker="-Wl,-install_name,@rpath/$lib \"-Wl,-exported_symbols_list,$root/$work/symbols\""
	fi
	# Go also writes a header there, which is not ours and goes away with the folder.
	go_build -buildmode=c-shared "$@" -ldflags "-s -w -buildid= -extldflags '$linker'" -o "$work/$lib" ./capi
	mv "$work/$lib" "$dir/$lib"
	ln -sfn "$lib" "$dir/$link"
}

# What C and C++ programs need to find the library: headers, CMake and pkg-config files.
# build_packages ROOT LIBDIR PREFIX RPATH: under the folder ROOT, for a library in ROOT/LIBDIR. PREFIX is
# ROOT as pkg-config shall see it, RPATH what it shall tell the linker.
build_packages() {
	local to=$1/$2 file
	say packages "$1/include $to/cmake $to/pkgconfig ($version)"
	mkdir -p "$1/include" "$to/cmake/flare" "$to/pkgconfig"
	cp include/flare.h bindings/cpp/*.hpp "$1/include/"
	for file in flareConfig.cmake flareConfigVersion.cmake; do
		sed "s|@VERSION@|$version|g; s|@LIBDIR@|$2|g" bindings/cpp/$file.in >"$to/cmake/flare/$file"
	done
	sed "s|@VERSION@|$version|g; s|@LIBDIR@|$2|g; s|@PREFIX@|$3|g; s|@RPATH@|$4|g" bindings/cpp/libflare.pc.in \
		>"$to/pkgconfig/libflare.pc"
}

# build [--cuda] [--intel-gpu]
build() {
	local cuda='' option
	choose_platform
	for option in "$@"; do
		case $option in
		--cuda) cuda=yes ;;
		# Not by default: with it OpenVINO looks for GPUs whenever a model is opened.
		--intel-gpu) libraries+=' libopenvino_intel_gpu_plugin.so' ;;
		*) fail "build does not know $option" ;;
		esac
	done
	check_tools
	export CGO_ENABLED=1 CGO_CFLAGS="-O3 -g0" CGO_CXXFLAGS="-O3 -g0"
	fetch_runtime
	[ -z "$cuda" ] || fetch_cuda
	build_program flare ./examples/flare
	build_library build/lib
	build_packages build lib "$beside" "$found_beside"
}

# ----------------------------------------------------------------- installing ---

# What pkg-config tells of a prefix that may be moved: where its file is, and that programs
# find the library where it was when they were linked.
beside='${pcfiledir}/../..' found_beside='-Wl,-rpath,${libdir} '

# install_files ROOT LIBDIR PREFIX RPATH DATE: what was built, under the folder ROOT (see build_packages),
# with a manual page of that date.
install_files() {
	local to=$1/$2 shell
	mkdir -p "$to" "$1/bin" "$1/share/man/man1"
	rm -rf "$to"/flare-runtime*
	cp -r build/lib/flare-runtime* "$to/"
	rm "$to"/flare-runtime*/.fetched
	rm -f "$to/$lib" "$1/bin/flare" # not written over: they may be in use
	cp build/lib/"$lib" "$to/$lib"
	ln -sfn "$lib" "$to/$link"
	cp build/bin/flare "$1/bin/flare"
	build_packages "$1" "$2" "$3" "$4"
	build/bin/flare manual "$5" >"$1/share/man/man1/flare.1"
	for shell in bash:bash-completion/completions/flare zsh:zsh/vendor-completions/_flare fish:fish/vendor_completions.d/flare.fish; do
		mkdir -p "$(dirname "$1/share/${shell#*:}")"
		build/bin/flare completion "${shell%%:*}" >"$1/share/${shell#*:}"
	done
}

install_prefix() {
	[ $# -eq 1 ] || fail "install takes the prefix, such as /usr/local"
	build
	install_files "$(absolute "$1")" lib "$beside" "$found_beside" "$(date +%F)"
}

# deb: Debian packages in build/deb.
deb() {
	[ $# -eq 0 ] || fail "deb takes nothing"
	command -v dpkg-gencontrol >/dev/null || fail "this machine lacks Debian's tools: apt install dpkg-dev"
	build
	make_debs
}

# make_debs: the packages, of what was built.
make_debs() {
	local date
	date=$(date -d "$(dpkg-parsechangelog -l bindings/debian/changelog -S Date)" +%F)
	rm -rf build/deb
	install_files build/deb/all/usr "lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH)" /usr '' "$date"
	bash bindings/debian/package.sh build/deb "$version"
}

# ---------------------------------------------------------------- Python wheel ---

# make_wheel: build/wheel/libflare-*.whl. Its tag must be what auditwheel finds.
make_wheel() {
	local tools=build/wheel/tools file told
	say wheel "build/wheel"
	mkdir -p build/wheel
	rm -f build/wheel/*.whl
	"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps -w build/wheel ./bindings/python
	file=$(echo build/wheel/libflare-*.whl)
	[ "$(uname -s)" = Linux ] || return 0
	[ -x $tools/bin/auditwheel ] || {
		"$python" -m venv $tools || fail "the wheel needs venv (Debian: apt install python3-venv)"
		$tools/bin/python -m pip install --quiet --disable-pip-version-check auditwheel
	}
	told=$($tools/bin/auditwheel show "$file" | tr '\n' ' ')
	case $told in
	*'is consistent with the following platform tag: "'*) ;;
	*) fail "auditwheel cannot tell the platform of $file: $told" ;;
	esac
	told=${told#*following platform tag: \"} told=${told%%\"*}
	case $file in
	*-py3-none-"$told".whl) ;;
	*) fail "auditwheel finds the platform $told, but the wheel is $file" ;;
	esac
}

# try_wheel: installs it where nothing else is, uses it, and tells sizes and times.
try_wheel() {
	build/bin/flare phantom --size small build/wheel/phantom
	"$python" bindings/python/tests/installed.py build/wheel/libflare-*.whl build/wheel/fresh \
		examples/demo/flare13_phantom.onnx build/wheel/phantom/imagesTr/phantom_0000_0000.nii.gz
}

# -------------------------------------------------------------------- showing ---

# The caller's path $1, relative to where the caller stands.
absolute() { case $1 in /*) echo "$1" ;; *) echo "$from/$1" ;; esac }

demo() {
	[ $# -eq 0 ] || [ $# -eq 2 ] || fail "demo takes nothing, or a CT and a model"
	build
	build_program flare-demo ./examples/demo
	if [ $# -eq 2 ]; then
		build/bin/flare-demo build/demo "$(absolute "$2")" "$(absolute "$1")"
	else
		build/bin/flare-demo build/demo examples/demo/flare13_phantom.onnx
	fi
}

# bench: examples/benchmark/bench.py tells what its arguments are. It runs where the
# caller stands, whose relative paths it takes.
bench() {
	build
	find_data
	export FLARE_LIBRARY=$root/build/lib/$lib # for the Python binding
	(cd "$from" && "$python" "$root/examples/benchmark/bench.py" "$@")
}

# -------------------------------------------------------------------- testing ---

find_data() {
	export FLARE_DATA=${FLARE_DATA:-$root/../shared/data}
	FLARE_DATA=$(absolute "$FLARE_DATA")
}

report='' current=''

# step TITLE COMMAND..: a failure ends the script, and its exit trap tells where.
step() {
	local start=$SECONDS
	current=$1
	printf '\n== %s\n' "$1"
	shift
	"$@"
	report+=$(printf '%5d s  %s' $((SECONDS - start)) "$current")$'\n'
	current=
}

# step_if PACKAGES FILES TITLE COMMAND..: a step for which Debian's PACKAGES are needed, which are there
# where FILES (patterns) are. Without them it is left out, or, where nothing may be, fails.
step_if() {
	local packages=$1 files=$2 file
	shift 2
	for file in $files; do
		[ -z "$(compgen -G "$file")" ] || continue
		if [ "${FLARE_REQUIRE_DATA:-}" = 1 ]; then
			current=$1
			fail "$1: this machine lacks $file: apt install $packages"
		fi
		report+="left out $1: apt install $packages"$'\n'
		return
	done
	step "$@"
}

summary() {
	rm -rf "$work"
	printf '\n%s' "$report"
	if [ -n "$current" ]; then printf 'FAILED   %s\n' "$current"; else echo "all tests passed"; fi
}

check_format() {
	local files
	files=$(gofmt -l capi examples segment)
	[ -z "$files" ] || fail "gofmt would change:"$'\n'"$files"
}

test_capi() {
	build_library build/test/panic -tags flarepanic # panics on purpose when asked to open "panic:"
	bash capi/test/run.sh "$root/build/lib" "$root/build/test/panic"
}

test_install() {
	install_files build/test/prefix lib "$beside" "$found_beside" "$(date +%F)"
	FLARE_ONNXRUNTIME='' FLARE_TEST_MODEL='' sh examples/cpp/test.sh build/test/prefix
	sh bindings/cpp/fetch_test.sh build/test/prefix
}

test_deb() {
	make_debs
	bash bindings/debian/test.sh build/deb
}

test_python() {
	local venv=build/test/venv
	if ! $venv/bin/python -c 'import pytest, SimpleITK, nibabel, itk, highdicom, ipyniivue, tqdm, mypy, openvino, onnxruntime' 2>/dev/null; then
		"$python" -m venv $venv || fail "the Python tests need venv (Debian: apt install python3-venv)"
		$venv/bin/python -m pip install --quiet --disable-pip-version-check pytest numpy SimpleITK nibabel \
			highdicom ipyniivue tqdm mypy openvino onnxruntime
		$venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps itk-core # 81 MB; all of ITK has 300
	fi
	if ! $venv/bin/python -c 'import ray, mpi4py' 2>/dev/null; then
		$venv/bin/python -m pip install --quiet --disable-pip-version-check ray mpi4py mpich ||
			echo "Ray or MPI is not to be had: their tests are left out"
	fi
	$venv/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps build/wheel/libflare-*.whl
	$venv/bin/python -m pytest -q bindings/python/tests
	(cd bindings/python && ../../$venv/bin/python -m mypy)
}

# The napari plugin in a real window on a display of its own: napari and Qt, 230 MB to fetch, 1 GB on disk.
test_napari() {
	local venv=build/test/napari lacking='' file known
	known=$(/sbin/ldconfig -p 2>/dev/null || true)
	command -v xvfb-run >/dev/null && command -v xauth >/dev/null || lacking+=' xvfb xauth'
	for file in libEGL.so.1=libegl1 libGL.so.1=libgl1 libX11-xcb.so.1=libx11-xcb1 libdbus-1.so.3=libdbus-1-3 \
		libfontconfig.so.1=libfontconfig1 libglib-2.0.so.0=libglib2.0-0 libxkbcommon-x11.so.0=libxkbcommon-x11-0 \
		libxcb-cursor.so.0=libxcb-cursor0 libxcb-icccm.so.4=libxcb-icccm4 libxcb-image.so.0=libxcb-image0 \
		libxcb-keysyms.so.1=libxcb-keysyms1 libxcb-randr.so.0=libxcb-randr0 libxcb-render-util.so.0=libxcb-render-util0 \
		libxcb-shape.so.0=libxcb-shape0 libxcb-sync.so.1=libxcb-sync1 libxcb-xfixes.so.0=libxcb-xfixes0 \
		libxcb-xkb.so.1=libxcb-xkb1; do
		[[ $known == *"${file%=*} "* ]] || lacking+=" ${file#*=}"
	done
	if [ -n "$lacking" ]; then
		[ "${FLARE_REQUIRE_DATA:-}" != 1 ] || fail "the napari plugin's tests need (Debian: apt install$lacking)"
		echo "left out: a window for napari needs (Debian: apt install$lacking)"
		return
	fi
	if ! $venv/bin/python -c 'import napari, PyQt6, pytest' 2>/dev/null; then
		"$python" -m venv $venv || fail "the napari plugin's tests need venv (Debian: apt install python3-venv)"
		if ! $venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile pytest 'napari[pyqt6]>=0.9'; then
			[ "${FLARE_REQUIRE_DATA:-}" != 1 ] || fail "pip could not install napari; see above"
			echo "napari is not to be had for this machine: the plugin's tests are left out"
			return
		fi
	fi
	$venv/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps ./bindings/python ./examples/napari_flare
	FLARE_TEST_MODEL=$root/examples/demo/flare13_phantom.onnx \
		xvfb-run -a -s '-screen 0 1600x1000x24' $venv/bin/pytest -q --disable-warnings examples/napari_flare/tests
}

# The extension on 3D Slicer's own classes: slicer-core and VTK, 250 MB to fetch and 1.1 GB on disk.
test_slicer() {
	local venv=build/test/slicer
	if ! $venv/bin/python -c 'import slicer_core, SimpleITK' 2>/dev/null; then
		"$python" -m venv $venv || fail "the extension's tests need venv (Debian: apt install python3-venv)"
		if ! $venv/bin/python -m pip install --quiet --disable-pip-version-check 'slicer-core==5.13.*' numpy SimpleITK; then
			[ "${FLARE_REQUIRE_DATA:-}" != 1 ] || fail "pip could not install slicer-core; see above"
			echo "slicer-core is not to be had for this machine: the extension's tests are left out"
			return
		fi
	fi
	(cd examples/slicer/Flare && PYTHONPATH=$root/bindings/python PYTHONDONTWRITEBYTECODE=1 \
		"$root/$venv/bin/python" -m unittest discover -s Testing -t . -p '*TestCase.py')
}

run_tests() {
	trap summary EXIT
	step "build" build
	find_data
	export FLARE_ONNXRUNTIME=$root/build/lib/flare-runtime FLARE_LIBRARY=$root/build/lib/$lib
	export FLARE_CLI=$root/build/bin/flare
	local model=${FLARE_TEST_MODEL:-$root/examples/demo/flare13_phantom.onnx}
	if [ -e "$model" ]; then export FLARE_TEST_MODEL=$model; else echo "no $model: tests that segment are left out"; fi
	step "gofmt" check_format
	step "go vet" go vet ./...
	step "Go, and the command line end to end" go test -timeout 30m ./...
	step "C" test_capi
	step "C++" bash examples/cpp/test.sh "$root/build"
	step "an installed prefix, and CMake's FetchContent" test_install
	step "Python wheel" make_wheel
	step "Python wheel in a fresh environment" try_wheel
	step "Python" test_python
	step "3D Slicer extension" test_slicer
	step "data-parallel training" build/test/venv/bin/python examples/data_parallel/test.py
	if [ -e "$model" ]; then
		step_if libinsighttoolkit5-dev '/usr/include/ITK-5*' "ITK" build/test/venv/bin/python examples/itk/test.py "$model"
		step_if "libvtk9-dev xvfb xauth libgl1-mesa-dri" '/usr/include/vtk-9* /usr/bin/xvfb-run' "VTK" build/test/venv/bin/python examples/vtk/test.py "$model"
	fi
	step_if "dpkg-dev lintian" /usr/bin/lintian "Debian packages" test_deb
	if [ -e "$root/examples/demo/flare13_phantom.onnx" ]; then
		step "fine-tuning" build/test/venv/bin/python examples/finetune/test.py examples/demo/flare13_phantom.onnx
		step "napari" test_napari
	fi
	step "README's snippets" build/test/venv/bin/python examples/readme/test.py "$FLARE_TEST_MODEL"
}

case ${1:-} in
'' | --cuda | --intel-gpu) command=build ;; # the default, with its options
*) command=$1 && shift ;;
esac
case $command in
build) build "$@" ;;
install) install_prefix "$@" ;;
deb) deb "$@" ;;
wheel)
	build
	make_wheel
	try_wheel
	;;
demo) demo "$@" ;;
test) run_tests ;;
bench) bench "$@" ;;
clean) rm -rf build ;;
help | -h | --help) usage ;;
*)
	usage >&2
	exit 2
	;;
esac
