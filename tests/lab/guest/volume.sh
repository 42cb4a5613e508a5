#!/bin/busybox sh
# lab.disk=SERIAL: writes a pattern to the disk with that serial and reads it back. With lab.keep=1 it goes on for ever:
# with every beat it writes a counter to the disk's first block and reads it back, and with every tenth the pattern.
# A disk that went away and came back must still have its pattern: that is looked at, not written again.
. /lab/common.sh

# asked_for SERIAL: whether that is the disk's; the kernel shows 20 characters of it, the command line may name fewer.
asked_for() {
    case $lab_disk in "$1"*) return 0 ;; esac
    case $1 in "$lab_disk"*) return 0 ;; esac
    return 1
}

find_disk() {
    for block in /sys/block/vd* /sys/block/sd*; do
        serial=
        peek serial "$block/serial"
        [ -n "$serial" ] && asked_for "$serial" || continue
        peek number "$block/diskseq" && peek device "$block/dev" || continue
        disk=${block##*/}
        rm -f /volume # a node of our own: writing to one in /dev that has just gone would make a file there
        mknod /volume b "${device%:*}" "${device#*:}"
        return
    done
    return 1
}

there() { peek now "/sys/block/$disk/diskseq" && [ "$now" = "$number" ]; }
write_pattern() { dd if=/pattern of=/volume bs=1M seek=1 oflag=direct conv=notrunc,fsync 2>/dev/null; }
pattern_kept() { dd if=/volume bs=1M skip=1 count=4 iflag=direct 2>/dev/null | cmp -s - /pattern; }

counter_kept() {
    text="hostler-lab: counter $beat boot=$boot"
    mark=$(echo "$text" | md5sum)
    text="$text md5=${mark%% *}"
    echo "$text" | dd of=/volume bs=4096 conv=sync,notrunc,fsync oflag=direct 2>/dev/null || return
    [ "$(dd if=/volume bs=4096 count=1 iflag=direct 2>/dev/null | head -n 1)" = "$text" ]
}

keep() {
    while there; do
        beat=$((beat + 1))
        word=ok
        counter_kept || word=BROKEN
        [ $((beat % 10)) -ne 0 ] || pattern_kept || word=BROKEN
        [ $word = ok ] || pause 0.5 # a disk that is being taken away fails before it has gone
        there && echo "hostler-lab: keeps $beat $word"
        pause "${lab_hb:-0.2}"
    done
}

beat=0
dd if=/dev/urandom of=/pattern bs=1M count=4 2>/dev/null
sum=$(md5sum </pattern)
until find_disk; do pause 0.2; done
write_pattern
while :; do
    word=ok
    pattern_kept || word=BROKEN
    echo "hostler-lab: disk $disk checksum $word ${sum%% *}"
    [ -z "$lab_keep" ] || keep
    while there; do pause 0.2; done
    until find_disk; do pause 0.2; done
done
