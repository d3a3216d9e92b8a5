#!/bin/sh
# PID 1 of a host of a lab: `sh lab-host.sh NAME`, in namespaces of its own (see lab-init.sh).
#
# /etc, /run/lbd and /var/lib/lbd are the host's own; they are kept in the lab, so that a host that is powered off
# and on again finds its disk as it was. /proc and /sys show this host alone, so its sysctls are where they belong.
set -eu
name=$1
files=/run/lab/hosts/$name
read -r pid _ </run/lab/proc/self/stat

if [ ! -d "$files" ]; then
  mkdir -p "$files/home" "$files/state"
  cp -a /run/lab/etc "$files/etc"
  rm -f "$files/etc/hostname" "$files/etc/resolv.conf" "$files/etc/machine-id"
  echo "$name" >"$files/etc/hostname"
  : >"$files/etc/resolv.conf"
fi
# What is in /run does not survive a boot.
rm -rf "$files/run"
mkdir "$files/run"

mount --bind "$files/etc" /etc
mount --bind "$files/run" /run/lbd
mount --bind "$files/state" /var/lib/lbd
mount -t proc proc /proc
mount -t sysfs sysfs /sys
echo "$name" >/proc/sys/kernel/hostname
ip link set lo up

echo "up $name $pid"
exec sleep infinity
