#!/bin/bash
# Installs what a machine of the lab needs, by apt when it is missing here and this is root. Without it the tests of
# test/vm skip themselves and say why.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
missing=()
while read -r package command; do
  case $command in
    /*) [[ -e $command ]] || missing+=("$package") ;;
    *) command -v "$command" >/dev/null || missing+=("$package") ;;
  esac
done <<'LIST'
qemu-system-x86 qemu-system-x86_64
qemu-utils qemu-img
mmdebstrap mmdebstrap
e2fsprogs mke2fs
busybox-static busybox
kmod modprobe
cpio cpio
zstd zstd
xz-utils xz
gnupg gpg
debian-archive-keyring /usr/share/keyrings/debian-archive-keyring.gpg
LIST
[[ ${#missing[@]} -gt 0 ]] || exit 0
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
  echo "vm-test: missing Debian packages: ${missing[*]}" >&2
  exit 0
fi
echo "vm-test: installing Debian packages: ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get -qq -o DPkg::Lock::Timeout=300 update
apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install -y --no-install-recommends "${missing[@]}" >&2 ||
  echo 'vm-test: they could not be installed' >&2
