#!/bin/busybox sh
# The first process of an emulated machine. It shows the host's files read-only, with a scratch layer in memory
# on top, runs /lab/command there, leaves the exit status in /lab/status and switches the machine off.
PATH=/bin
/bin/busybox --install /bin

finish() {
    echo "$1"
    sync
    poweroff -f
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in /modules/*.ko; do
    insmod "$module" || finish "module $module cannot be loaded"
done

nine=trans=virtio,version=9p2000.L,msize=262144
mount -t tmpfs -o size=60% tmpfs /scratch
mkdir /scratch/upper /scratch/work
mount -t 9p -o "ro,cache=loose,$nine" host /host || finish "the host's files cannot be mounted"
mount -t overlay -o lowerdir=/host,upperdir=/scratch/upper,workdir=/scratch/work overlay /root || finish "no overlay"

mkdir -p /root/lab /root/dev /root/proc /root/sys /root/run /root/tmp
mount -t 9p -o "rw,cache=none,$nine" lab /root/lab || finish "the lab's folder cannot be mounted"
mount -t proc proc /root/proc
mount -t sysfs sysfs /root/sys
mount -t cgroup2 cgroup2 /root/sys/fs/cgroup
mount -t devtmpfs devtmpfs /root/dev
mkdir -p /root/dev/shm /root/dev/pts
mount -t tmpfs tmpfs /root/dev/shm
mount -t devpts devpts /root/dev/pts
ip link set lo up

chroot /root /bin/sh /lab/command </dev/null >/root/lab/output 2>&1
echo $? >/root/lab/status
finish "done"
