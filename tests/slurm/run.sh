#!/usr/bin/env bash
# run.sh BIN: starts a real Slurm on this machine, runs tests/slurm on it, stops it. BIN holds python and snakemake.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=$(cd "${1:-$here/../../.venv/bin}" && pwd)
dir=${SLURM_TEST_DIR:-/tmp/softlabels-slurm}
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "SKIPPED: the tests on a real Slurm need root and apt-get to install and start it"
  exit 0
fi
trap 'bash "$here/stop-slurm.sh" "$dir"' EXIT
bash "$here/start-slurm.sh" "$dir"
export SLURM_CONF="$dir/etc/slurm.conf" SOFTLABELS_TEST_SLURM=1
cd "$here/../.."
timeout -k 10 "${SLURM_TEST_SECONDS:-2400}" "$bin/python" -m pytest -q -s -p no:cacheprovider tests/slurm
