#!/bin/busybox sh
# The first process of a guest. The host's root is `/`, read-only. Changes go to memory and are lost when the guest ends.
# The kernel's command line sets the variables FS_SHARE (a folder on the host for results) and FS_NETWORK (`devices`,
# `link:ADDRESS` or `none`). The command is FS_SHARE/command.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
box=/bin/busybox
say() { echo "guest: $*"; }
off() { $box sync; $box poweroff -f; }

$box mount -t proc proc /proc
$box mount -t sysfs sys /sys
$box mount -t tmpfs -o size=75% tmpfs /mnt || { say "no tmpfs"; off; }
$box mkdir -p /mnt/upper /mnt/work /mnt/root
$box mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root || { say "no overlay"; off; }
root=/mnt/root
$box mount -t proc proc $root/proc
$box mount -t sysfs sys $root/sys
$box mount -t devtmpfs dev $root/dev
$box mkdir -p $root/dev/pts $root/dev/shm
$box mount -t devpts devpts $root/dev/pts
$box mount -t tmpfs -o size=75%,mode=1777 shm $root/dev/shm
$box mount -t tmpfs -o mode=755 run $root/run
$box ln -sf /proc/self/fd $root/dev/fd # Spark's scripts read from /dev/fd
$box ln -sf /proc/self/fd/0 $root/dev/stdin
$box ln -sf /proc/self/fd/1 $root/dev/stdout
$box ln -sf /proc/self/fd/2 $root/dev/stderr
$box mkdir -p $root/run/share
$box mount -t hostfs -o "$FS_SHARE" none $root/run/share || { say "no share"; off; }
ulimit -l unlimited
ulimit -n 65536
$box hostname guest
FS_NETWORK=$FS_NETWORK $box chroot $root /bin/bash /run/share/enter >/mnt/console 2>&1 </dev/null
$box cat /mnt/console
off
