#!/usr/bin/env bash
# Install the Debian packages for the guest's kernel and verbs. Without root, print the missing packages and fail.
#   install.sh --check     only check
set -euo pipefail
# The guest uses the host's root file system, so the host needs the user-space part of verbs.
packages=(
  linux-source-6.12 gcc make flex bison bc libelf-dev xz-utils
  busybox-static iproute2 kmod
  rdma-core libibverbs1 ibverbs-providers ibverbs-utils perftest python3-pyverbs
)
missing=()
for name in "${packages[@]}"; do
  status=$(dpkg-query --show --showformat '${db:Status-Status}' "$name" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$name")
done
[ ${#missing[@]} = 0 ] && exit
if [ "${1:-}" != --check ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "installing ${missing[*]}" >&2
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
  exit
fi
echo "the guest with Soft-RoCE needs packages; install them, for example with: apt-get install ${missing[*]}" >&2
exit 1
