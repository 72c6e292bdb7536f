#!/bin/bash
# Set up the network and the Soft-RoCE devices in the guest, run the command, and write its status to the share.
set -u
out=/run/share
end() { echo "$1" >$out/status.part && mv $out/status.part $out/status; sync; exit; }

address_ready() { # address_ready DEVICE: wait until the GID table has the IPv4 address; queue pairs need it to connect
  for _ in $(seq 200); do
    grep -qs '0000:0000:0000:0000:0000:ffff' /sys/class/infiniband/"$1"/ports/1/gids/* && return
    sleep 0.05
  done
  echo "guest: $1 has no GID for its IPv4 address" >&2
  end 125
}

ip link set lo up
# The answer to a READ of 4 MiB is a burst of 1024 packets. The kernel drops packets beyond the backlog, and they are sent again after 67 ms.
echo 20000 >/proc/sys/net/core/netdev_max_backlog
case $FS_NETWORK in
  devices) # both ends of one cable are in this guest, with a Soft-RoCE device on each
    ip link add eth0 type veth peer name eth1
    for n in 0 1; do
      # Each end receives packets from the other end's address, which is also local.
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
