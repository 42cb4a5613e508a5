#!/bin/busybox sh
# lab.ping=ADDRESS: asks that address once a second, for ever, and says whether it was answered.
. /lab/common.sh

n=0
while :; do
    n=$((n + 1))
    if ping -q -c 1 -W 1 "$lab_ping" >/dev/null 2>&1; then
        echo "hostler-lab: ping $n ok"
    else
        echo "hostler-lab: ping $n lost"
    fi &
    pause 1
    wait
done
