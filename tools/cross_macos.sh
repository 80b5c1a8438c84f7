#!/usr/bin/env bash
# Builds the library, the commands and the C tests for macOS on any system, arm64 and x86-64: tools/cross_macos.sh VENV
#
# VENV holds meson, ninja and ziglang, a clang with a linker for Mach-O and the C headers of macOS; no SDK is used. Warnings
# are errors. What is built is not run: that takes a Mac. Without ziglang it says so and ends well.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$PWD/$1/bin/python
PATH=$PWD/$1/bin:$PATH
if ! version=$("$python" -m ziglang version 2>/dev/null); then
    echo "SKIPPED: nothing is built for macOS, as the ziglang package cannot be installed here"
    exit 0
fi
for arch in aarch64 x86_64; do
    build=build-macos-$arch
    mkdir -p "$build"
    cat >"$build/cross.ini" <<INI
[binaries]
c = ['$python', '-m', 'ziglang', 'cc', '-target', '$arch-macos.13.0']
ar = ['$python', '-m', 'ziglang', 'ar']
strip = 'true'
pkg-config = 'false'
[host_machine]
system = 'darwin'
subsystem = 'macos'
cpu_family = '$arch'
cpu = '$arch'
endian = 'little'
INI
    echo "== $arch-macos, zig $version"
    if [ -f "$build/build.ninja" ]; then again=(--reconfigure); else again=(--cross-file cross.ini); fi
    (cd "$build" && meson setup "${again[@]}" . .. -Dpython=disabled -Dtests=true -Dwerror=true -Doptimization=2) >"$build/setup.log" ||
        { cat "$build/setup.log"; exit 1; }
    ninja -C "$build" --quiet
    library=$build/libmetallic.dylib
    magic=$(od -An -tx4 -N8 "$library" | tr -s ' ')
    case $arch in
    aarch64) [ "$magic" = " feedfacf 0100000c" ] ;;
    x86_64) [ "$magic" = " feedfacf 01000007" ] ;;
    esac || { echo "$library is no Mach-O library for $arch:$magic"; exit 1; }
done
