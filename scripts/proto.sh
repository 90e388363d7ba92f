#!/usr/bin/env bash
# Generates proto/gen from proto/trigpoint. With --check: into a temporary folder, and fails when proto/gen differs.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
out=proto/gen
[ "${1:-}" = --check ] && out=$(mktemp -d) && trap 'rm -rf "$out"' EXIT
mkdir -p "$out"
rm -rf "${out:?}/trigpoint"
python -m grpc_tools.protoc -Iproto --python_out="$out" --grpc_python_out="$out" --mypy_out="$out" --mypy_grpc_out="$out" proto/trigpoint/v1/*.proto 2> >(grep -v '^Writing' >&2 || true)
for d in trigpoint trigpoint/v1; do
  printf '"""Generated from proto/trigpoint by `make proto`."""\n' > "$out/$d/__init__.py"
  : > "$out/$d/py.typed"
done
if [ "$out" != proto/gen ]; then
  diff -r -x __pycache__ "$out/trigpoint" proto/gen/trigpoint >/dev/null || { echo "proto/gen is not what proto/trigpoint generates: run make proto" >&2; exit 1; }
fi
