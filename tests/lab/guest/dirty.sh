#!/bin/busybox sh
# lab.dirty=MIB: overwrites that much memory for ever, as fast as it can, each time with something else.
. /lab/common.sh

dd if=/dev/urandom of=/noise bs=64k count=80 2>/dev/null
mkdir /dirty
round=0
while :; do
    round=$((round + 1))
    piece=0
    while [ $((piece * 4)) -lt "$lab_dirty" ]; do
        dd if=/noise of="/dirty/$piece" bs=64k skip=$((round % 16)) count=64 conv=notrunc 2>/dev/null
        piece=$((piece + 1))
    done
done
