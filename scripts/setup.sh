#!/bin/bash
# Brings a Debian 12 or 13 machine to where every make target can run: Debian packages, node_modules, the native
# addon. Each step first looks whether it is needed, so that a run with nothing to do takes a fraction of a second.
#
#   setup.sh          what every target needs; it fails when something cannot be had
#   setup.sh tests    and what single tests need: those skip themselves, and say why, where it cannot be had
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$@"; exit 1; }

# --- Debian packages -------------------------------------------------------------------------------------------

# A path proves the package where a command does not: /usr/sbin/arping is the one by Thomas Habets, while iputils'
# own is /usr/bin/arping and cannot do what the tests ask for.
missing_of() {
  local package proof
  while read -r package proof; do
    case $proof in
      /*) [[ -e $proof ]] || echo "$package" ;;
      *) command -v "$proof" >/dev/null || echo "$package" ;;
    esac
  done
}

missing_packages() {
  missing_of <<'LIST'
nodejs node
npm npm
gcc gcc
libc6-dev /usr/include/stdlib.h
git git
iproute2 ip
nftables nft
tcpdump tcpdump
arping /usr/sbin/arping
iputils-ping ping
openssl openssl
curl curl
procps ps
util-linux unshare
mount mount
ca-certificates /etc/ssl/certs/ca-certificates.crt
kubernetes-client kubectl
LIST
}

# For machines in emulation (test/vm), for Debian's own opinion of the package, for the shells that read its
# completions, and for the routing daemons beside lbd.
missing_test_packages() {
  missing_of <<'LIST'
qemu-system-x86 qemu-system-x86_64
qemu-utils qemu-img
mmdebstrap mmdebstrap
debian-archive-keyring /usr/share/keyrings/debian-archive-keyring.gpg
e2fsprogs mke2fs
busybox-static busybox
kmod modprobe
cpio cpio
zstd zstd
xz-utils xz
gnupg gpg
lintian lintian
binutils objdump
dpkg-dev dpkg-shlibdeps
man-db man
prometheus promtool
zsh zsh
fish fish
bird2 bird
frr /usr/lib/frr/zebra
LIST
}

install_packages() {
  local missing
  missing=$(missing_packages | tr '\n' ' ')
  missing=${missing% }
  [[ -n $missing ]] || return 0
  if ! command -v apt-get >/dev/null; then
    die "missing here, by their Debian names: $missing; this is no Debian, so please install their like by hand"
  fi
  if [[ $(id -u) != 0 ]]; then
    die "missing Debian packages; as root run: apt-get update && apt-get install --no-install-recommends $missing"
  fi
  say "installing Debian packages: $missing"
  # shellcheck disable=SC2086 # one word each
  apt_install $missing
}

install_test_packages() {
  local missing
  missing=$(missing_test_packages | tr '\n' ' ')
  if [[ -z $missing || $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then return 0; fi
  say "installing Debian packages for tests: $missing"
  # shellcheck disable=SC2086 # one word each
  apt_install $missing || say 'they could not be installed (above): tests that need them are skipped'
  # Tests start routing daemons of their own, and of Prometheus only promtool: those of the machine are not to run because of us.
  if [[ -d /run/systemd/system ]]; then
    case " $missing" in *' bird2 '*) systemctl disable --now bird >&2 || true ;; esac
    case " $missing" in *' frr '*) systemctl disable --now frr >&2 || true ;; esac
    case " $missing" in *' prometheus '*) systemctl disable --now prometheus >&2 || true ;; esac
  fi
}

apt_install() {
  local -x DEBIAN_FRONTEND=noninteractive
  apt-get -qq -o DPkg::Lock::Timeout=300 update &&
    apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install -y --no-install-recommends "$@" >&2
}

# --- npm packages ----------------------------------------------------------------------------------------------

# The pinned Node comes from the npm package `node`, whose install script fetches it, so a tree without it is as
# good as none: it happens when scripts are switched off, and when npm prunes what that script had put there.
npm_tree_is_whole() {
  local machine
  case $(uname -m) in aarch64) machine=arm64 ;; *) machine=x64 ;; esac
  [[ -x node_modules/.bin/node && -x node_modules/.bin/esbuild ]] &&
    [[ -e node_modules/node/node_modules/node-linux-$machine/include/node/node_api.h ]]
}

install_npm_packages() {
  local stamp=node_modules/.lbd-setup want
  want=$(sha256sum <package-lock.json)
  if [[ -e $stamp && $(<"$stamp") == "$want" ]] && npm_tree_is_whole; then return 0; fi
  say 'installing npm packages: npm ci'
  rm -f "$stamp"
  npm_ci
  npm_tree_is_whole || die 'npm ci ran, but node_modules/.bin/node or its headers are not there: did npm refuse to run install scripts?'
  tools_start
  echo "$want" >"$stamp"
}

npm_ci() {
  if (($(node -p 'process.versions.node.split(".")[0]') < 26)); then
    local -x NODE_OPTIONS="${NODE_OPTIONS:-} --require \"$PWD/scripts/claim-pinned-node.cjs\""
  fi
  npm ci --no-audit --no-fund --include=dev --engine-strict=false --ignore-scripts=false --loglevel=error >&2
}

# Each has a native part of its own for each platform, which npm counts as optional and may leave out in silence.
tools_start() {
  local tool
  for tool in tsc biome knip esbuild; do
    PATH=$PWD/node_modules/.bin:$PATH "$tool" --version >/dev/null || die "npm ci ran, but node_modules/.bin/$tool does not start (above)"
  done
}

# --- the native addon ------------------------------------------------------------------------------------------

build_native() {
  local addon=build/native/lbd_sys.node
  [[ -e scripts/build-native.mjs ]] || return 0
  if [[ -e $addon && -z $(find native scripts/build-native.mjs node_modules/.lbd-setup -newer "$addon" -print -quit) ]]; then return 0; fi
  node_modules/.bin/node scripts/build-native.mjs >&2
  touch "$addon"
}

install_packages
if [[ ${1-} == tests ]]; then install_test_packages; fi
mkdir -p .cache
# Two makes at once (a test run beside a build) must not install over each other.
exec 9>.cache/setup.lock
flock 9
install_npm_packages
build_native
