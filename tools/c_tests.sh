#!/usr/bin/env bash
# Builds the C tests and runs them: tools/c_tests.sh VENV BUILD_DIRECTORY [meson setup options]
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1 build=$2
shift 2
PATH=$PWD/$venv/bin:$PATH
if [ -f "$build/build.ninja" ]; then
    meson setup --reconfigure "$build" -Dtests=true -Dpython=disabled "$@" >/dev/null
else
    meson setup "$build" -Dtests=true -Dpython=disabled "$@" >/dev/null
fi
ninja -C "$build" --quiet
# One after the other: the pool's tests and checkasm's benchmark loops want the machine for themselves.
meson test -C "$build" --no-rebuild --num-processes 1 --print-errorlogs
