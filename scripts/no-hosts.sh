#!/usr/bin/env bash
# Lock files must not name a registry: whoever installs chooses the index.
set -euo pipefail
cd "$(dirname "$0")/.."
if git ls-files -z | grep -zE '(^|/)(requirements.*\.lock|package-lock\.json)$' | xargs -0 -r grep -nE 'https?://|--index-url|"resolved"'; then
  echo "a lock file names a host" >&2; exit 1
fi
