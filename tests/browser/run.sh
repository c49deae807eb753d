#!/usr/bin/env bash
# run.sh BIN [PYTEST ARGUMENT...]: the tests of the viewer in a real Chromium, which is installed with apt if it is missing. BIN holds python.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=$(cd "${1:-$here/../../.venv/bin}" && pwd)
have() { command -v chromium || command -v chromium-browser || command -v google-chrome; }
if ! have >/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing Chromium (once)"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null || true
  fi
  if ! have >/dev/null; then
    echo "SKIPPED: the tests of the viewer need Chromium, which is neither here nor to be had with apt-get as root"
    exit 0
  fi
fi
export SOFTLABELS_TEST_BROWSER=1
cd "$here/../.."
exec "$bin/python" -m pytest -q -p no:cacheprovider --durations=5 tests/browser "${@:2}"
