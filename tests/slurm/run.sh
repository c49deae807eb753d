#!/usr/bin/env bash
# run.sh BIN [FILE...]: starts a real Slurm on this machine, runs tests/slurm on it, stops it. BIN holds python and
# snakemake.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=$(cd "${1:-$here/../../.venv/bin}" && pwd)
dir=${SLURM_TEST_DIR:-/tmp/softlabels-slurm}
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "SKIPPED: the tests on a real Slurm need root and apt-get to install and start it"
  exit 0
fi
bash "$here/start-slurm.sh" "$dir" || { status=$?; [ $status = 3 ] || bash "$here/stop-slurm.sh" "$dir"; exit $status; }
trap 'kill $(jobs -p) 2>/dev/null || true; bash "$here/stop-slurm.sh" "$dir"' EXIT
export SLURM_CONF="$dir/etc/slurm.conf" SOFTLABELS_TEST_SLURM=1
cd "$here/../.."
files=("${@:2}")
[ ${#files[@]} -gt 0 ] || files=(tests/slurm/test_*.py)
# Each file in a process of its own, side by side: its projects are its own, and most of its time is waiting.
names=() pids=()
for file in "${files[@]}"; do
  name=$(basename "$file" .py)
  timeout -k 10 "${SLURM_TEST_SECONDS:-2400}" "$bin/python" -m pytest -q -s -p no:cacheprovider --durations=0 "$file" \
    >"$dir/log/$name.txt" 2>&1 &
  names+=("$name") pids+=($!)
done
status=0
for i in "${!pids[@]}"; do
  wait "${pids[$i]}" || status=$?
  echo "--- ${names[$i]}"
  cat "$dir/log/${names[$i]}.txt"
done
exit $status
