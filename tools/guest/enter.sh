#!/bin/bash
# In the guest, with the host's files around: network, Soft-RoCE devices, then the command. Its status goes to the share.
set -u
out=/run/share
end() { echo "$1" >$out/status.part && mv $out/status.part $out/status; sync; exit; }

address_ready() { # address_ready DEVICE: wait until the GID table has the IPv4 address; a queue pair cannot be connected before
  for _ in $(seq 200); do
    grep -qs '0000:0000:0000:0000:0000:ffff' /sys/class/infiniband/"$1"/ports/1/gids/* && return
    sleep 0.05
  done
  echo "guest: $1 has no GID for its IPv4 address" >&2
  end 125
}

ip link set lo up
# A READ of 4 MiB is answered by 1024 packets at once. What the backlog does not hold is dropped, and sent again 67 ms later.
echo 20000 >/proc/sys/net/core/netdev_max_backlog
case $FS_NETWORK in
  devices) # two ends of one cable, both in here, a Soft-RoCE device on each
    ip link add eth0 type veth peer name eth1
    for n in 0 1; do
      # Each end hears the other's address, which is this machine's as well.
      echo 1 >/proc/sys/net/ipv4/conf/eth$n/accept_local
      ip addr add 10.77.0.$((n + 1))/24 dev eth$n
      ip link set eth$n mtu 9000 up
    done
    names="rxe0 rxe1"
    ;;
  link:*) # a cable to another guest
    ip addr add "${FS_NETWORK#link:}"/24 dev vec0
    ip link set vec0 mtu 9000 up
    names=rxe0
    ;;
  *) names= ;;
esac
for name in $names; do
  net=eth${name#rxe}
  [ "$FS_NETWORK" = devices ] || net=vec0
  rdma link add "$name" type rxe netdev "$net" || end 125
  address_ready "$name"
done
/bin/bash $out/command >$out/output 2>&1 </dev/null
end $?
