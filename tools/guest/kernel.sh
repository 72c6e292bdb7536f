#!/usr/bin/env bash
# Build the guest's kernel once for this source and this fragment, and print its path. Nine CPU minutes when it is not in the cache.
#   kernel.sh          build it if it is not there, then print the path
#   kernel.sh --path   only print where it is or would be
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
  echo "the guest's kernel is built from $source, which is not here: apt-get install linux-source-6.12" >&2
  exit 1
}

mkdir -p "$cache"
exec 9>"$cache/build.lock" # two test runs that start together build one kernel
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
  # A name that olddefconfig dropped would show only as a device that does not appear in the guest.
  for name in HOSTFS OVERLAY_FS UML_NET_VECTOR VETH INFINIBAND_USER_ACCESS RDMA_RXE; do
    grep -qx "CONFIG_$name=y" .config || { echo "CONFIG_$name is missing from the final .config"; exit 1; }
  done
  nice -n 10 make ARCH=um -j"$(nproc)" linux
} >"$cache/build.log" 2>&1 || { tail -20 "$cache/build.log" >&2; exit 1; }
strip -o "$kernel.part" linux
chmod 755 "$kernel.part"
mv "$kernel.part" "$kernel"
echo "$kernel"
