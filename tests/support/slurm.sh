#!/usr/bin/env bash
# A SLURM of two nodes, which are both this machine, for tests: no accounting, no systemd, everything below one folder.
#   apt-get install --no-install-recommends slurm-wlm munge      # Debian, Ubuntu; the script needs root
#   eval "$(tests/support/slurm.sh start)"                     # then sinfo, sbatch and hydra/launcher=slurm work here
#   tests/support/slurm.sh stop
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin # where the daemons lie

folder=/tmp/genlab-slurm
cores=$(nproc)
nodes=("$(hostname -s)" localhost) # two names that this machine has, so that either can be connected to

start() {
  for program in munged slurmctld slurmd sbatch; do
    command -v "$program" > /dev/null || { echo "slurm.sh: $program is missing: apt-get install slurm-wlm munge" >&2; exit 1; }
  done
  [ "$(id -u)" = 0 ] || { echo "slurm.sh: starting the daemons takes root" >&2; exit 1; }
  mkdir -p "$folder"/{state,log,bin}
  write_conf
  write_sacct
  if ! munge --no-input > /dev/null 2>&1; then
    mkdir -p /run/munge
    chown munge: /run/munge
    runuser -u munge -- "$(command -v munged)" >&2
    touch "$folder/munged-is-ours"
  fi
  export SLURM_CONF=$folder/slurm.conf
  running slurmctld || slurmctld -f "$SLURM_CONF" >&2
  for node in "${nodes[@]}"; do
    running "slurmd-$node" || slurmd -N "$node" -f "$SLURM_CONF" >&2
  done
  for _ in $(seq 100); do
    if [ "$(sinfo --noheader --Node --format=%t 2> /dev/null | sort | uniq -c | xargs)" = "${#nodes[@]} idle" ]; then
      echo "export SLURM_CONF=$SLURM_CONF PATH=$folder/bin:\$PATH"
      return
    fi
    sleep 0.2
  done
  echo "slurm.sh: the nodes did not come up within 20 seconds; see $folder/log" >&2
  exit 1
}

stop() {
  export SLURM_CONF=$folder/slurm.conf
  [ -f "$SLURM_CONF" ] || return 0
  scancel --user="$(id -un)" 2> /dev/null || true
  for daemon in "${nodes[@]/#/slurmd-}" slurmctld; do
    if running "$daemon"; then
      kill "$(cat "$folder/$daemon.pid")"
      for _ in $(seq 50); do running "$daemon" || break; sleep 0.2; done
    fi
  done
  [ ! -f "$folder/munged-is-ours" ] || kill "$(cat /run/munge/munged.pid)" || true
  rm -rf "$folder"
}

running() {
  [ -f "$folder/$1.pid" ] && kill -0 "$(cat "$folder/$1.pid")" 2> /dev/null
}

write_conf() {
  cat > "$folder/slurm.conf" << EOF
ClusterName=genlab
SlurmctldHost=${nodes[0]}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits until its old credential has run out: 5 seconds instead of 120.
AuthInfo=cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=10
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd-%n.log
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
$(port=17003; for node in "${nodes[@]}"; do
    echo "NodeName=$node NodeHostname=${nodes[0]} NodeAddr=127.0.0.1 Port=$((port++)) CPUs=$cores State=UNKNOWN"
  done)
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
EOF
}

# submitit asks sacct what became of a job; without slurmdbd there is no sacct, and it would wait for a killed job
# forever. The controller knows for some minutes.
write_sacct() {
  cat > "$folder/bin/sacct" << 'EOF'
#!/usr/bin/env bash
echo "JobID|State|NodeList"
while [ $# -gt 0 ]; do
  if [ "$1" = -j ]; then
    scontrol --oneliner show job "$2" 2> /dev/null | while read -r line; do
      field() { sed -n "s/.*\b$1=\([^ ]*\).*/\1/p" <<< "$line"; }
      id=$(field JobId)
      array=$(field ArrayJobId)
      [ -z "$array" ] || id=${array}_$(field ArrayTaskId)
      echo "$id|$(field JobState)|$(field NodeList)"
    done
  fi
  shift
done
EOF
  chmod +x "$folder/bin/sacct"
}

case ${1:-} in
  start) start ;;
  stop) stop ;;
  *) echo "usage: slurm.sh start|stop" >&2; exit 2 ;;
esac
