#!/usr/bin/env bash
# Build the guest's kernel once per kernel source and kernel.config, and print its path. A build takes nine CPU minutes.
#   kernel.sh          build the kernel if it is not in the cache, then print its path
#   kernel.sh --path   only print its path
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source=${FIRESTEEL_GUEST_SOURCE:-/usr/src/linux-source-6.12.tar.xz}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/firesteel/guest
version=$(dpkg-query --show --showformat '${Version}' linux-source-6.12 2>/dev/null || echo none)
key=$(printf '%s\n' "$version" | cat - "$here/kernel.config" | sha256sum | cut -c1-16)
kernel=$cache/linux-$key

if [ "${1:-}" = --path ] || [ -x "$kernel" ]; then
  echo "$kernel"
  exit
fi
[ -r "$source" ] || {
  echo "the source of the guest's kernel, $source, is missing; install it with: apt-get install linux-source-6.12" >&2
  exit 1
}

mkdir -p "$cache"
exec 9>"$cache/build.lock" # concurrent test runs build only one kernel
flock 9
[ -x "$kernel" ] && { echo "$kernel"; exit; }
work=$(mktemp -d "$cache/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "building the guest's kernel $version (about 9 CPU minutes, once), log: $cache/build.log" >&2
tar -xJf "$source" -C "$work" --strip-components 1
cd "$work"
{
  make ARCH=um x86_64_defconfig
  cat "$here/kernel.config" >>.config
  make ARCH=um olddefconfig
  # Check here, because a name that olddefconfig drops would only show as a missing device in the guest.
  for name in HOSTFS OVERLAY_FS UML_NET_VECTOR VETH INFINIBAND_USER_ACCESS RDMA_RXE; do
    grep -qx "CONFIG_$name=y" .config || { echo "CONFIG_$name is missing from the final .config"; exit 1; }
  done
  nice -n 10 make ARCH=um -j"$(nproc)" linux
} >"$cache/build.log" 2>&1 || { tail -20 "$cache/build.log" >&2; exit 1; }
strip -o "$kernel.part" linux
chmod 755 "$kernel.part"
mv "$kernel.part" "$kernel"
echo "$kernel"
