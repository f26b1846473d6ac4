#!/bin/busybox sh
# First process of the machine under test: mounts what memscope and its tests need, runs /tests, and says how it went.
export PATH=/usr/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
echo "@@ kernel $(uname -r)"
. /tests
dmesg | grep -E 'BUG:|WARNING:|Oops|general protection' | while read -r line; do echo "@@ log $line"; done
echo "@@ end"
poweroff -f
