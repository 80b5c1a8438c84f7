#!/usr/bin/env bash
# Builds the C tests and what they test for AArch64 and runs them in an emulator, on any Debian or Ubuntu: tools/qemu.sh VENV
#
# The tests run on qemu's most capable CPU; checkasm once more on one that has nothing but NEON. The packages are installed
# when that can be done without asking, as root; without them it says so and ends well.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/$1/bin:$PATH
packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
build=build-qemu

present() {
    command -v aarch64-linux-gnu-gcc qemu-aarch64 >/dev/null && [ -f /usr/aarch64-linux-gnu/include/stdio.h ]
}
if ! present && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # shellcheck disable=SC2086
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $packages; } \
        >/dev/null 2>&1 || true
fi
if ! present; then
    echo "SKIPPED: nothing is built or run for AArch64, as these packages are not installed: $packages"
    exit 0
fi

if [ -f "$build/build.ninja" ]; then again=(--reconfigure); else again=(--cross-file tools/aarch64-linux-gnu.ini); fi
meson setup "${again[@]}" "$build" -Dpython=disabled -Dlibrary=false -Dtests=true -Dwerror=true >/dev/null
# Left out: what compiles Metal kernels, which the machine's own compiler would do for the machine's own CPU; metal_strict,
# which asks a clang about those kernels and would be told the same, only later; and the executor's test, which is about
# signals that the emulator handles otherwise.
tests=(core pool runtime hazards checker)
# Nothing else is built: the library would pack the Metal kernels in the emulator.
ninja -C "$build" --quiet "${tests[@]/#/tests/c/test_}" tests/checkasm/checkasm

# At the same time, since checkasm takes longest.
log=$build/checkasm-neon.log
qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu cortex-a57 "$build/tests/checkasm/checkasm" --kernel neon >"$log" &
neon=$! failed=0
TEST_IN_EMULATOR=1 meson test -C "$build" --no-rebuild --num-processes 2 --print-errorlogs "${tests[@]}" checkasm || failed=1
wait "$neon" || failed=1
echo "== a CPU with nothing but NEON: the rows of higher tiers are not run"
grep -v -e '^  ' "$log"
grep -q -e '^checkasm: .* isa neon$' "$log" || { echo "checkasm found another CPU"; failed=1; }
exit "$failed"
