#!/usr/bin/env bash
# Formatting, static checks, layer order: tools/lint.sh VENV. Ends non-zero when anything is to be mended.
set -uo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/$1/bin:$PATH
failed=0
step() {
    echo "== $*"
    "$@" || failed=1
}

mapfile -t c_files < <(find csrc python/binding tests examples metal/mslc -name '*.[ch]' 2>/dev/null | sort)
step clang-format --dry-run -Werror "${c_files[@]}"
step ruff check --quiet python tests benches tools tuning
step ruff format --quiet --check python tests benches tools tuning
step python tools/check_layers.py

build=build-lint
if [ -f $build/build.ninja ]; then setup=(--reconfigure); else setup=(); fi
meson setup "${setup[@]}" $build -Dtests=true -Dpython=enabled >/dev/null || exit 1
# Generated headers must exist; nothing else needs to be compiled.
ninja -C $build -t targets all | sed -n 's/\(\.inc\): CUSTOM_COMMAND.*/\1/p' | xargs -r ninja -C $build --quiet || exit 1
mapfile -t units < <(python - $build/compile_commands.json <<'PY'
import json, os, sys
base = os.path.dirname(sys.argv[1])
found = {os.path.relpath(os.path.join(base, entry["file"])) for entry in json.load(open(sys.argv[1]))}
print("\n".join(sorted(found)))
PY
)
echo "== clang-tidy (${#units[@]} files)"
printf '%s\0' "${units[@]}" | xargs -0 -n 4 -P "$(getconf _NPROCESSORS_ONLN)" \
    clang-tidy -p $build --quiet --warnings-as-errors='*' 2>&1 |
    { grep -vE '^\[+[0-9]+/[0-9]+\] Processing|warnings? generated|^Suppressed|^Use -' || true; } || failed=1
exit $failed
