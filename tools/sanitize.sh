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

build() { # directory, sanitizers
    local reconfigure=()
    [ ! -f "$1/build.ninja" ] || reconfigure=(--reconfigure)
    meson setup "${reconfigure[@]}" "$1" -Dtests=true -Dpython=disabled -Dlibrary=false --buildtype=debugoptimized \
        -Db_ndebug=false -Db_sanitize="$2" "${sanitize_args[@]}" >/dev/null
    ninja -C "$1" --quiet
}

echo "== C tests: address, undefined"
build build-asan address,undefined
METALLIC_TEST_SHORT=1 meson test -C build-asan --no-rebuild --num-processes 1 --print-errorlogs --timeout-multiplier 10

echo "== C tests: thread"
build build-tsan thread
for name in test_pool test_runtime; do
    "${fixed[@]}" env METALLIC_TEST_SHORT=1 build-tsan/tests/c/$name
done

echo "== Python tests: address, undefined"
sanitized=.venv-sanitize
[ -x $sanitized/bin/python ] || python3 -m venv $sanitized
setup=(-Csetup-args=-Db_sanitize=address,undefined -Csetup-args=-Dbuildtype=debugoptimized -Csetup-args=-Db_ndebug=false)
for arg in "${sanitize_args[@]}"; do setup+=("-Csetup-args=$arg"); done
$sanitized/bin/python -m pip install -q "${setup[@]}" '.[test]'
tests=(tests)
[ -z "$short" ] || tests=(tests/test_core.py tests/test_tensor.py tests/test_matmul.py tests/test_threads.py)
existing=()
for test in "${tests[@]}"; do [ ! -e "$test" ] || existing+=("$test"); done
# CPython's own allocator hides overruns inside its arenas.
LD_PRELOAD=$preload ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc METALLIC_TEST_SHORT=1 \
    $sanitized/bin/python -m pytest -p no:cacheprovider "${existing[@]}"
