#!/usr/bin/env bash
# make mutate: mutation testing of verifier/evidence and verifier/place (docs/mutation.md), in a copy of the tree and a venv of its
# own, both under var/mutate. M='PATTERN ...' tests some mutants, by name.
set -euo pipefail
cd "$(dirname "$0")/.."
room=var/mutate
tree=$room/tree
venv=$room/venv
mkdir -p "$room"
want=$(cat requirements.lock pyproject.toml | sha256sum | cut -d' ' -f1)
if [ "$(cat "$venv/.made-from" 2>/dev/null)" != "$want" ]; then
  .venv/bin/python -m venv --clear "$venv"
  export UV_SYSTEM_CERTS=1
  .venv/bin/uv pip install -q --python "$venv/bin/python" --require-hashes -r requirements.lock
  .venv/bin/uv pip install -q --python "$venv/bin/python" -c requirements.lock --group mutate
  printf '%s\n' "$want" > "$venv/.made-from"
fi
# Always afresh: mutmut 3.8 stops at an assertion where tests changed since the run that it would go on from.
rm -rf "$tree"
mkdir -p "$tree"
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' f; do [ ! -e "$f" ] || printf '%s\0' "$f"; done |
  tar --null -T - -cf - | tar -xf - -C "$tree"
python=$PWD/$venv/bin/python
cd "$tree"
set -f
# shellcheck disable=SC2086  # M is a list of patterns
TRIGPOINT_MUTATION=1 exec nice -n 10 "$python" scripts/mutate.py --jobs "${JOBS:-$(nproc)}" ${M:-}
