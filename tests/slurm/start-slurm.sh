#!/usr/bin/env bash
# start-slurm.sh [DIR]: a real Slurm on one Debian or Ubuntu machine, all its state under DIR (/tmp/softlabels-slurm).
# Three virtual nodes: cpu1 (partition cpu), gpu1 with two fake GPUs (partition gpu), and cpu2 (partition spare), which a
# test may take away. Nodes claim more CPUs and memory than there are, because test jobs mostly wait.
# Environment:
#   SLURM_TEST_ACCOUNTING=0|1     1: with MariaDB and slurmdbd, so that sacct works; 0 (default): squeue only
#   SLURM_TEST_PORT=26800         base of the ports used on 127.0.0.1
#   SLURM_TEST_PROCTRACK=...      proctrack/linuxproc (default) or proctrack/cgroup
# Afterwards `. DIR/env.sh` sets SLURM_CONF; stop with stop-slurm.sh DIR.
set -euo pipefail
DIR=$(realpath -m "${1:-/tmp/softlabels-slurm}")
ACC=${SLURM_TEST_ACCOUNTING:-0}
P=${SLURM_TEST_PORT:-26800}
HERE=$(cd "$(dirname "$0")" && pwd)
exec </dev/null
log() { printf '[start-slurm %5.1fs] %s\n' "$(awk -v a="$T0" -v b="$(date +%s.%N)" 'BEGIN{print b-a}')" "$*"; }
die() { echo "start-slurm: $*" >&2; for f in "$DIR"/log/*.log; do [ -s "$f" ] && { echo "--- $f"; tail -n 15 "$f"; }; done >&2; exit 1; }
# wait_for SECONDS WHAT CMD...   polls every 0.2 s
wait_for() { local n=$(( $1 * 5 )) what=$2; shift 2; while ! "$@" >/dev/null 2>&1; do n=$((n-1)); [ $n -gt 0 ] || die "timeout: $what"; sleep 0.2; done; }
T0=$(date +%s.%N)
[ "$(id -u)" = 0 ] || die "needs root (apt-get, SlurmUser=root, slurmd)"

# ---- 1. packages -------------------------------------------------------------------------
pk=(slurm-wlm munge); [ "$ACC" = 1 ] && pk+=(slurmdbd mariadb-server)
miss=(); for p in "${pk[@]}"; do dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || miss+=("$p"); done
if [ ${#miss[@]} -gt 0 ]; then
  log "installing ${miss[*]}"
  mkdir -p "$DIR/log"
  # policy-rc.d: no maintainer script may start a system-wide daemon
  made_policy=0; [ -e /usr/sbin/policy-rc.d ] || { printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d; made_policy=1; }
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -q && apt-get install -y -q --no-install-recommends -o Dpkg::Use-Pty=0 "${miss[@]}"; } >"$DIR/log/apt.log" 2>&1 || die "apt-get failed, see $DIR/log/apt.log"
  [ $made_policy = 0 ] || rm -f /usr/sbin/policy-rc.d
  log "packages installed"
fi

# ---- 2. refuse to run over a live instance; wipe the old state ----------------------------
if compgen -G "$DIR/pid/*.pid" >/dev/null; then
  for f in "$DIR"/pid/*.pid; do p=$(cat "$f"); [ -n "$p" ] && kill -0 "$p" 2>/dev/null && { echo "start-slurm: already running (pid $p in $f): run stop-slurm.sh first" >&2; exit 3; }; done
fi
rm -rf "$DIR/etc" "$DIR/pid" "$DIR/log" "$DIR/spool" "$DIR/state" "$DIR/munge" "$DIR/db" "$DIR/dev" "$DIR/env.sh"
mkdir -p "$DIR"/{etc,pid,log,spool,state,munge,db,dev}
chmod 755 "$DIR" "$DIR"/*/           # munged: no group/world-writable parents
HOST=$(hostname -s)
CPUS=${SLURM_TEST_CPUS:-16}; MEM=${SLURM_TEST_MEM:-24000}
# fake GPU devices: slurmd wants character devices whose names end in a number (clones of /dev/null)
GRES_FILE=" File=$DIR/dev/nvidia[0-1]"
for i in 0 1; do mknod "$DIR/dev/nvidia$i" c 1 3 2>/dev/null || GRES_FILE=" Count=2"; done   # count-only: schedules, but sets no CUDA_VISIBLE_DEVICES

# ---- 3. configuration --------------------------------------------------------------------
cat >"$DIR/etc/slurm.conf" <<CONF
ClusterName=labtest
SlurmctldHost=$HOST(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$DIR/munge/munge.socket
SlurmctldPort=$((P+17))
SlurmctldPidFile=$DIR/pid/slurmctld.pid
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdPidFile=$DIR/pid/slurmd-%n.pid
SlurmdLogFile=$DIR/log/slurmd-%n.log
SlurmdSpoolDir=$DIR/spool/%n
StateSaveLocation=$DIR/state
# no cgroups, no CPU binding: works in any container or VM
ProctrackType=${SLURM_TEST_PROCTRACK:-proctrack/linuxproc}
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
# nodes may claim more CPUs than the machine has
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
DefMemPerCPU=100
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2,sched_min_interval=100000
# quick limits for tests
KillWait=2
OverTimeLimit=0
MinJobAge=1200
InactiveLimit=0
Waittime=0
MaxArraySize=1001
SlurmctldTimeout=30
SlurmdTimeout=30
SlurmctldDebug=info
SlurmdDebug=info
JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
CONF
echo "JobAcctGatherParams=OverMemoryKill" >>"$DIR/etc/slurm.conf"   # jobs over --mem are killed; by polling, no cgroups
if [ "$ACC" = 1 ]; then cat >>"$DIR/etc/slurm.conf" <<CONF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((P+19))
AccountingStoragePass=$DIR/munge/munge.socket
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
CONF
else echo "AccountingStorageType=accounting_storage/none" >>"$DIR/etc/slurm.conf"; fi
cat >>"$DIR/etc/slurm.conf" <<CONF
NodeName=cpu1 NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$((P+21)) CPUs=$CPUS RealMemory=$MEM State=UNKNOWN
NodeName=cpu2 NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$((P+23)) CPUs=$CPUS RealMemory=$MEM State=UNKNOWN
NodeName=gpu1 NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$((P+22)) CPUs=$CPUS RealMemory=$MEM Gres=gpu:fake:2 State=UNKNOWN
PartitionName=cpu Nodes=cpu1 Default=YES MaxTime=600 DefaultTime=10 State=UP
PartitionName=spare Nodes=cpu2 MaxTime=600 DefaultTime=10 State=UP
PartitionName=gpu Nodes=gpu1 MaxTime=600 DefaultTime=10 State=UP
CONF
cat >"$DIR/etc/gres.conf" <<CONF
NodeName=gpu1 Name=gpu Type=fake$GRES_FILE
CONF
printf 'CgroupMountpoint=/sys/fs/cgroup\nCgroupAutomount=no\nCgroupPlugin=autodetect\nConstrainCores=no\nConstrainRAMSpace=no\nConstrainDevices=no\n' >"$DIR/etc/cgroup.conf"
cat >"$DIR/env.sh" <<CONF
export SLURM_CONF=$DIR/etc/slurm.conf
CONF
export SLURM_CONF=$DIR/etc/slurm.conf
# The Snakemake jobstep plugin drops every SLURM_* variable but a few (SLURM_CONF too) before its inner srun,
# so the configuration must also be at Slurm's default path.
if [ -e /etc/slurm/slurm.conf ] && ! { [ -L /etc/slurm/slurm.conf ] && [ "$(readlink /etc/slurm/slurm.conf)" = "$SLURM_CONF" ]; }; then
  die "/etc/slurm/slurm.conf exists and is not ours"
fi
mkdir -p /etc/slurm; ln -sfn "$SLURM_CONF" /etc/slurm/slurm.conf

# ---- 4. munge ----------------------------------------------------------------------------
( umask 077; dd if=/dev/urandom of="$DIR/munge/munge.key" bs=128 count=1 status=none )
chmod 711 "$DIR/munge"; chmod 700 "$DIR/log"
munged --key-file="$DIR/munge/munge.key" --socket="$DIR/munge/munge.socket" --pid-file="$DIR/pid/munged.pid" \
       --log-file="$DIR/log/munged.log" --seed-file="$DIR/munge/munged.seed" >"$DIR/log/munged.out" 2>&1 || { cat "$DIR/log/munged.out"; die "munged"; }
chmod 755 "$DIR/log"
wait_for 10 munge munge -S "$DIR/munge/munge.socket" -n
log "munged up"

# ---- 5. accounting -----------------------------------------------------------------------
if [ "$ACC" = 1 ]; then
  mariadb-install-db --no-defaults --user=root --datadir="$DIR/db" --skip-test-db --auth-root-authentication-method=normal >"$DIR/log/mariadb-install.log" 2>&1 || { cat "$DIR/log/mariadb-install.log"; die "mariadb-install-db"; }
  # --init-file: ONE statement per line
  printf '%s\n' "CREATE DATABASE IF NOT EXISTS slurm_acct_db;" "CREATE USER IF NOT EXISTS 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';" \
    "GRANT ALL ON slurm_acct_db.* TO 'slurm'@'127.0.0.1';" >"$DIR/etc/init.sql"
  setsid mariadbd --no-defaults --user=root --datadir="$DIR/db" --socket="$DIR/db/s.sock" --pid-file="$DIR/pid/mariadbd.pid" \
    --bind-address=127.0.0.1 --port=$((P+20)) --skip-name-resolve --init-file="$DIR/etc/init.sql" \
    --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=0 >"$DIR/log/mariadbd.log" 2>&1 &
  wait_for 60 mariadb mariadb --no-defaults -h127.0.0.1 -P$((P+20)) -uslurm -pslurm -e "USE slurm_acct_db"
  log "mariadbd up"
  cat >"$DIR/etc/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$DIR/munge/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$((P+19))
SlurmUser=root
PidFile=$DIR/pid/slurmdbd.pid
LogFile=$DIR/log/slurmdbd.log
DebugLevel=info
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((P+20))
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
CONF
  chmod 600 "$DIR/etc/slurmdbd.conf"
  slurmdbd >"$DIR/log/slurmdbd.out" 2>&1 || { cat "$DIR/log/slurmdbd.out"; die slurmdbd; }
  wait_for 60 slurmdbd sacctmgr -n list cluster
  log "slurmdbd up"
  sacctmgr -i add cluster labtest >>"$DIR/log/sacctmgr.log" 2>&1 || true
  sacctmgr -i add account lab Description=lab Organization=lab >>"$DIR/log/sacctmgr.log" 2>&1 || true
  sacctmgr -i add user root Account=lab DefaultAccount=lab AdminLevel=Admin >>"$DIR/log/sacctmgr.log" 2>&1 || true
fi

# ---- 6. slurm ----------------------------------------------------------------------------
slurmctld -c >"$DIR/log/slurmctld.out" 2>&1 || { cat "$DIR/log/slurmctld.out"; die slurmctld; }
wait_for 30 slurmctld scontrol ping
log "slurmctld up"
for n in cpu1 cpu2 gpu1; do mkdir -p "$DIR/spool/$n"; slurmd -N "$n" >"$DIR/log/slurmd-$n.out" 2>&1 || { cat "$DIR/log/slurmd-$n.out"; die "slurmd $n"; }; done
idle() { [ "$(sinfo -h -N -o %T | sort | uniq -c | awk '$2=="idle"{print $1}')" = 3 ]; }
wait_for 30 "nodes idle" idle
log "nodes idle"
# ---- 7. smoke test: a job really runs ------------------------------------------------------
out=$(timeout 30 srun -p gpu -n1 --gpus=1 sh -c 'echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES') || die "srun smoke test failed: $out"
log "srun says: $out"
log "ready; use: . $DIR/env.sh"
