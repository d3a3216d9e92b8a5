#!/bin/sh
# PID 1 of a lab: `sh lab-init.sh DIRECTORY-OF-THE-SCRIPTS`, in mount, PID and network namespaces of its own.
#
# Its network namespace is the switch of the lab. It starts a host for each line `host NAME` on its standard input,
# and ends with that input: then the kernel kills every process of the lab, and the namespaces and all they hold go
# with them. So nothing can outlive the process that holds the other end of the pipe, however that one dies.
#
# It says `up NAME PID` (the pid as the machine's own PID namespace has it) and `down NAME` on its standard output.
set -eu
scripts=$1
lab=/run/lab

# Everything a host may write is under /run, in memory, and private to the lab.
mount -t tmpfs -o mode=755 lbd-lab /run
mkdir -p $lab/hosts $lab/tmp $lab/proc $lab/real/etc $lab/real/var/lib $lab/etc $lab/var-lib /run/lbd
# The machine's /proc: a process reads its real pid from it, whichever PID namespace it is in.
mount --bind /proc $lab/proc

# A private copy of directory $1 at $2, made of links to what the machine's own one holds, so that mount points can
# be made in it. What is a link there is copied as it is, because it may be relative to its place.
farm() {
  mount --bind "$1" "$lab/real$1"
  find "$lab/real$1" -mindepth 1 -maxdepth 1 ! -type l ! -name 'lbd*' -exec ln -s -t "$2" {} +
  find "$lab/real$1" -mindepth 1 -maxdepth 1 -type l ! -name 'lbd*' -exec cp -d -t "$2" {} +
}
farm /etc $lab/etc
mount -o remount,bind,ro $lab/real/etc
farm /var/lib $lab/var-lib
mkdir $lab/etc/lbd $lab/var-lib/lbd
mount --bind $lab/var-lib /var/lib

# A switch forwards frames and has no opinion of its own on what is in them.
echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
for call in /proc/sys/net/bridge/bridge-nf-call-*; do
  [ ! -e "$call" ] || echo 0 >"$call"
done
# After 0, which is the priority of br_netfilter: it takes frames past other hooks of its own priority.
nft add table bridge faults
nft add chain bridge faults forward '{ type filter hook forward priority 100; policy accept; }'

read -r pid _ <$lab/proc/self/stat
echo "up switch $pid"

while read -r verb name; do
  [ "$verb" = host ] || { echo "lab-init: unknown verb $verb" >&2; exit 1; }
  {
    unshare --net --mount --uts --ipc --pid --fork --kill-child -- sh "$scripts/lab-host.sh" "$name" || :
    echo "down $name"
  } &
done
