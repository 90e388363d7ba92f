#!/usr/bin/env bash
# Makes .venv from requirements.lock, once for each state of the lock. Needs python3 (3.11 or newer); installs the venv module by
# apt where it is missing and we are root. Uses uv for speed and plain pip where uv cannot be had or fails.
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=.venv/.made-from
want=$(cat requirements.lock pyproject.toml scripts/venv.sh | sha256sum | cut -d' ' -f1)
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && exit 0

say() { printf 'venv: %s\n' "$*" >&2; }
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
  say "needs python3 3.11 or newer (set PYTHON to choose one)"; exit 1; }

make_venv() { "$python" -m venv --clear .venv >/dev/null 2>&1; }
if ! make_venv; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "python3-venv is missing; installing it with apt"
    apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
    make_venv || { say "python3 -m venv still fails; see: $python -m venv .venv"; exit 1; }
  else
    say "python3 has no venv module. As root: apt-get install python3-venv"; exit 1
  fi
fi

pip() { .venv/bin/python -m pip --disable-pip-version-check -q "$@"; }
say "installing (a minute or two)"
export UV_SYSTEM_CERTS=1  # as pip does: a company's own CA stands in the system's store
if pip install 'uv>=0.9' >/dev/null 2>&1 && .venv/bin/uv pip install -q --python .venv/bin/python --require-hashes -r requirements.lock 2>.venv/uv.log; then
  :
else
  say "uv could not do it; using pip"
  pip install --require-hashes -r requirements.lock
fi
# The lock holds hatchling, so the editable install needs no index and no isolated build.
pip install --no-deps --no-build-isolation --editable .
printf '%s\n' "$want" > "$stamp"
