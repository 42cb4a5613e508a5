#!/bin/busybox sh
# Says which network interfaces there are, at the start and at every change; with lab.ip=ADDRESS/BITS the newest has
# that address; from the first on, lab.ping is asked for answers.
. /lab/common.sh

known=unknown
addressed=
while :; do
    now= line= newest= newest_number=0
    for net in /sys/class/net/*; do
        name=${net##*/} number= address=
        [ "$name" != lo ] || continue
        peek number "$net/ifindex" && peek address "$net/address" || continue
        now="$now $number" # one that no other interface of this boot ever has
        line="$line $name $address"
        [ "$number" -lt "$newest_number" ] || newest=$name newest_number=$number
    done
    if [ "$now" != "$known" ]; then
        known=$now
        if [ -n "$lab_ip" ] && [ -n "$newest" ] && [ "$newest_number" != "$addressed" ]; then
            for net in /sys/class/net/*; do
                [ "$net" = /sys/class/net/lo ] || ip address flush dev "${net##*/}" 2>/dev/null
            done
            ip address add "$lab_ip" dev "$newest"
            ip link set "$newest" up
            [ -n "$addressed" ] || [ -z "$lab_ping" ] || /lab/ping.sh &
            addressed=$newest_number
        fi
        echo "hostler-lab: nics${line:- none}"
    fi
    pause 0.2
done
