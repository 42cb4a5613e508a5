#!/bin/busybox sh
# lab.write=SERIAL:BASE64: says what the disk with that serial begins with, then writes those bytes there. It comes up
# with it again and again, and each time says what is there.
. /lab/common.sh

serial=${lab_write%%:*}
until disk=$(grep -lx "$serial" /sys/block/vd*/serial 2>/dev/null); do pause 0.2; done
disk=${disk#/sys/block/}
mknod /written b $(tr : ' ' <"/sys/block/${disk%/serial}/dev")
begins() { dd if=/written bs=4096 count=1 iflag=direct 2>/dev/null | md5sum; }
before=$(begins)
echo "${lab_write#*:}" | base64 -d | dd of=/written bs=4096 conv=sync,notrunc,fsync oflag=direct 2>/dev/null
after=$(begins)
echo "hostler-lab: wrote $serial over ${before%% *} now ${after%% *}"
