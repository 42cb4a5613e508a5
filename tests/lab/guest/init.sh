#!/bin/busybox sh
# The first program of a guest: starts what the kernel's command line asks for (lab.NAME=VALUE), and lets its heart beat.
# Each line on the console is one write, so that those of several programs do not run into each other.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
exec </dev/ttyS0 >/dev/ttyS0 2>&1
for module in $(cat /modules/order); do insmod "/modules/$module.ko"; done
read -r boot </proc/sys/kernel/random/boot_id
export boot
for word in $(cat /proc/cmdline); do
    case $word in lab.*=*)
        name=${word%%=*}
        export "lab_${name#lab.}=${word#*=}"
        ;;
    esac
done
mkfifo /never
. /lab/common.sh

echo "hostler-lab: userspace up boot=$boot"
acpid -l /dev/null
# QEMU 7.2 loses what an emulated guest writes during a migration through an old entry of its TLB, and the guest panics
# on the other host. Each switch between these two is a write to CR3, which empties the TLB.
if [ -z "$lab_still" ]; then
    while :; do pause 0.004; done &
    while :; do pause 0.004; done &
fi
/lab/disks.sh &
/lab/nics.sh &
[ -z "$lab_disk" ] || /lab/volume.sh &
[ -z "$lab_write" ] || /lab/write.sh &
[ -z "$lab_dirty" ] || /lab/dirty.sh &
[ -n "$lab_hb" ] || exec sleep 2147483647
n=0
while :; do
    n=$((n + 1))
    echo "hostler-lab: heartbeat $n boot=$boot"
    pause "$lab_hb"
done
