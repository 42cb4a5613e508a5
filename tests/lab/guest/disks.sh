#!/bin/busybox sh
# Says which disks there are, with their serials, at the start and at every change.
. /lab/common.sh

known=unknown
while :; do
    now=
    for block in /sys/block/vd* /sys/block/sd*; do
        number= # one that no other disk of this boot ever has
        peek number "$block/diskseq"
        [ -z "$number" ] || now="$now ${block##*/}=$number"
    done
    if [ "$now" != "$known" ]; then
        known=$now
        line=
        for disk in $now; do
            serial=
            peek serial "/sys/block/${disk%=*}/serial"
            line="$line ${disk%=*}${serial:+:$serial}"
        done
        echo "hostler-lab: disks${line:- none}"
    fi
    pause 0.2
done
