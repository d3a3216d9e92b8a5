#!/bin/bash
# Builds what a machine of the lab boots: build-image.sh SUITE DIRECTORY
#
# DIRECTORY gets `kernel` and `initrd`, Debian's cloud kernel with a small initramfs of its own, and `disk`, an ext4
# file system with a minimal Debian of that suite and `root/` over it. Takes half a minute; needs root. The exit status is
# 75 when Debian's packages cannot be had.
set -euo pipefail
suite=$1 directory=$2
here=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/sbin:/sbin
# In memory where there is room for it: a third faster.
room_kb=$(df --output=avail /dev/shm 2>/dev/null | tail -n 1 || true)
[ "${room_kb:-0}" -lt 4000000 ] || export TMPDIR=/dev/shm
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
root=$scratch/root

packages=(
  systemd systemd-sysv dbus udev kmod procps less libpam-systemd
  iproute2 iputils-ping nftables ifupdown isc-dhcp-client network-manager
  ca-certificates curl gpgv busybox adduser libatomic1
)
# The kernel is unpacked and not installed: the machine needs neither the initramfs nor the boot loader of its package.
# shellcheck disable=SC2016 # $1 is the root, for mmdebstrap's shell
mmdebstrap --quiet --variant=minbase --aptopt='Acquire::Retries "3"' --dpkgopt=force-unsafe-io \
  --include="$(IFS=,; echo "${packages[*]}")" \
  --customize-hook='cd "$1/tmp" && package=$(chroot "$1" apt-cache depends linux-image-cloud-amd64 | sed -n "s/^ *Depends: \(linux-image-[0-9].*\)/\1/p" | head -1) &&
    chroot "$1" sh -c "cd /tmp && apt-get -qq download $package" &&
    dpkg-deb --fsys-tarfile "$1"/tmp/linux-image-*.deb | tar -x -C "$1" --keep-directory-symlink && rm "$1"/tmp/linux-image-*.deb' \
  --customize-hook="cp -a '$here/root/.' \"\$1\"" \
  "$suite" "$root" || exit 75

version=$(ls "$root/usr/lib/modules" 2>/dev/null || ls "$root/lib/modules")
depmod -b "$root" "$version"

# --- the root: one manager of the network at a time, and nothing that works in the background on its own ------------
chroot "$root" systemctl --quiet enable lab-agent.service
chroot "$root" systemctl --quiet disable NetworkManager.service NetworkManager-wait-online.service \
  NetworkManager-dispatcher.service systemd-networkd.service 2>/dev/null || true
chroot "$root" systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service \
  fstrim.timer dpkg-db-backup.timer systemd-timesyncd.service getty@tty1.service serial-getty@ttyS0.service \
  man-db.timer logrotate.timer systemd-pstore.service
# Each reload of systemd runs all of its generators, and nothing here has anything for these.
mkdir -p "$root/etc/systemd/system-generators"
for generator in bless-boot cryptsetup debug getty gpt-auto hibernate-resume integritysetup rc-local run system-update veritysetup; do
  ln -s /dev/null "$root/etc/systemd/system-generators/systemd-$generator-generator"
done
echo '/dev/vda / ext4 defaults,errors=remount-ro 0 0' >"$root/etc/fstab"
# The only packages it can get are those of the lab's own repository.
rm -rf "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/* "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*
# Nobody reads here, and each look at all files goes over them.
rm -rf "$root"/usr/share/{man,doc,locale,zoneinfo,info,lintian}/* "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
rm -f "$root/etc/hostname" "$root/etc/resolv.conf"
: >"$root/etc/machine-id"
mkdir -p "$root/var/log/journal"
passwd --root "$root" --delete root >/dev/null 2>&1 || chroot "$root" passwd -d root >/dev/null

# --- the initramfs -------------------------------------------------------------------------------------------------
initramfs=$scratch/initramfs
mkdir -p "$initramfs"/{bin,dev,proc,root,modules}
cp /bin/busybox "$initramfs/bin/busybox"
install -m 755 "$here/init" "$initramfs/init"
for module in virtio_pci virtio_blk virtio_net virtio_console virtio_rng ext4; do
  modprobe -d "$root" -S "$version" --show-depends "$module" | sed -n 's/^insmod \([^ ]*\).*/\1/p'
done | awk '!seen[$0]++' | while read -r file; do
  name=$(basename "$file"); name=${name%.xz}; name=${name%.zst}
  case $file in
    *.xz) xz -dc "$file" ;;
    *.zst) zstd -qdc "$file" ;;
    *) cat "$file" ;;
  esac >"$initramfs/modules/$name"
  echo "$name" >>"$initramfs/modules/order"
done
(cd "$initramfs" && find . | cpio --quiet -o -H newc) >"$directory/initrd"

mv "$root"/boot/vmlinuz-* "$directory/kernel"
rm -rf "$root"/boot/*
truncate -s 1500M "$directory/disk"
mke2fs -q -t ext4 -L root -E lazy_itable_init=0,lazy_journal_init=0 -m 0 -d "$root" "$directory/disk"
