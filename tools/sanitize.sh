#!/usr/bin/env bash
# The tests under sanitizers: tools/sanitize.sh VENV. SHORT=1 leaves out what takes longest.
#   1. C tests under AddressSanitizer and UndefinedBehaviorSanitizer, leaks included
#   2. the threaded C tests under ThreadSanitizer
#   3. the Python tests with the extension built as in 1 and the runtimes preloaded (no leak check: CPython keeps memory)
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$PWD/$1
short=${SHORT:-}
PATH=$venv/bin:$PATH
cc=${CC:-cc}

if $cc --version | grep -q clang; then
    arch=$(uname -m)
    preload=$($cc -print-file-name="libclang_rt.asan-$arch.so")
    sanitize_args=(-Db_lundef=false "-Dc_link_args=-shared-libasan")
else
    preload="$($cc -print-file-name=libasan.so) $($cc -print-file-name=libubsan.so)"
    sanitize_args=(-Db_lundef=false)
fi
# ThreadSanitizer's shadow memory collides with the widest address-space randomisation of recent kernels.
fixed=()
if command -v setarch >/dev/null && setarch "$(uname -m)" -R true 2>/dev/null; then
    fixed=(setarch "$(uname -m)" -R)
fi
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export ASAN_OPTIONS=detect_leaks=1:strict_string_checks=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1

build() { # directory, sanitizers, further options
    local directory=$1 sanitizers=$2 reconfigure=()
    shift 2
    [ ! -f "$directory/build.ninja" ] || reconfigure=(--reconfigure)
    meson setup "${reconfigure[@]}" "$directory" -Dtests=true -Dlibrary=false --buildtype=debug -Doptimization=1 \
        -Db_ndebug=false -Db_sanitize="$sanitizers" "${sanitize_args[@]}" "$@" >/dev/null
    ninja -C "$directory" --quiet
}

echo "== C tests: address, undefined"
packages=$PWD/build-asan/packages
build build-asan address,undefined -Dpython=enabled "-Dpython.platlibdir=$packages" "-Dpython.purelibdir=$packages"
meson test -C build-asan --no-rebuild --num-processes 1 --print-errorlogs --timeout-multiplier 10

echo "== C tests: thread"
build build-tsan thread -Dpython=disabled
for name in test_pool test_runtime; do
    "${fixed[@]}" build-tsan/tests/c/$name
done

echo "== Python tests: address, undefined"
meson install -C build-asan --no-rebuild --quiet --tags python-runtime
# What is left out builds the project again (packaging) or has little to do with memory.
tests=(tests --ignore=tests/test_packaging.py)
if [ -n "$short" ]; then
    tests=()
    for name in api errors interop matmul operators sdpa softmax tensor threads; do tests+=("tests/test_$name.py"); done
fi
# CPython's own allocator hides overruns inside its arenas.
LD_PRELOAD=$preload PYTHONPATH=$packages ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc \
    python -m pytest -rs -p no:cacheprovider "${tests[@]}"
