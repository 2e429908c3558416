#!/bin/busybox sh
# The first program of a machine: opens the verified root, reads the config disk, starts the one process that it names,
# and powers off when that ends. It stays process 1. There is no other program that anybody could log in to.
#
# What it says on the port stelae.control is "begun", "exit CODE" or "refused REASON", each once at most, and a line of
# the kernel's console where there is no port. What it hears there is "stop".
set -u
umask 022
export PATH=/bin LC_ALL=C

ROOT=/newroot CONFIG=/config LAUNCH=/launch
PATIENCE=100          # tenths of a second to wait for a device
QUIET=nosuid,nodev,noexec

say() {
    # A host that does not read must not keep the machine from ending.
    [ -z "${control:-}" ] || printf '%s\n' "$1" | timeout 20 busybox cat >&3
}

end() {
    poweroff -f
    sleep 60
    exit 1  # the kernel panics, and the machine ends so
}

refuse() {
    echo "stelae: refused: $1" >/dev/console
    say "refused $1"
    end
}

try() {
    what=$1
    shift
    "$@" >/dev/null || refuse "$what"
}

# These set "found". A command costs more than anything else here where a machine is emulated, so they start none.

port() { # NAME: the device of the virtio port of that name
    for found in /sys/class/virtio-ports/*/name; do
        if [ -e "$found" ] && IFS= read -r name <"$found" && [ "$name" = "$1" ]; then
            found=${found%/name} found=/dev/${found##*/}
            return 0
        fi
    done
    return 1
}

partition() { # LABEL: its device
    for found in /sys/class/block/*/partition; do
        found=${found%/partition}
        while [ -e "$found/uevent" ] && IFS= read -r line; do
            if [ "$line" = "PARTNAME=$1" ]; then
                found=/dev/${found##*/}
                return 0
            fi
        done <"$found/uevent"
    done
    return 1
}

block() { # SERIAL: the name of the disk that has it
    for found in /sys/block/*/serial; do
        # What the device says has no line's end.
        if [ -e "$found" ] && { IFS= read -r name <"$found" || [ -n "$name" ]; } && [ "$name" = "$1" ]; then
            found=${found%/serial} found=${found##*/}
            return 0
        fi
    done
    return 1
}

await() { # FUNCTION ARGUMENT
    left=$PATIENCE
    until "$@"; do
        [ "$left" -gt 0 ] || return 1
        left=$((left - 1))
        usleep 100000
    done
}

is_below_root() { # PATH: a folder of the root, and no symbolic link on the way
    case $1/ in
        *//* | */./* | */../* | [!/]*) return 1 ;;
    esac
    walked=$ROOT rest=${1#/}/
    while [ -n "$rest" ]; do
        walked=$walked/${rest%%/*} rest=${rest#*/}
        [ ! -L "$walked" ] && [ -d "$walked" ] || return 1
    done
}

start_system() {
    busybox mount -t proc -o $QUIET proc /proc  # from here on the shell has its commands in itself, by /proc/self/exe
    mount -t sysfs -o $QUIET sysfs /sys
    mount -t devtmpfs -o nosuid,noexec,mode=0755 devtmpfs /dev
    while read -r module; do
        try "the kernel does not take its module $module" insmod "/lib/modules/$module.ko"
    done </modules
    rm -rf /lib/modules
}

open_ports() {
    await port stelae.control || refuse "there is no port stelae.control"
    exec 3<>"$found"
    control=open
    await port stelae.out || refuse "there is no port stelae.out"
    out=$found
    await port stelae.err || refuse "there is no port stelae.err"
    err=$found
}

open_root() {
    hash=
    read -r cmdline </proc/cmdline
    for word in $cmdline; do
        case $word in
            roothash=*) hash=${word#roothash=} ;;
        esac
    done
    case $hash in
        *[!0-9a-f]*) hash= ;;
    esac
    [ ${#hash} = 64 ] || refuse "the kernel's command line has no root hash"
    short=${hash%${hash#????????????????}}
    await partition "root-$short" || refuse "there is no disk with the root $short"
    data=$found
    await partition "root-verity-$short" || refuse "there is no hash tree of the root $short"
    tree=$found
    try "the root is not what its hash says" veritysetup open --panic-on-corruption "$data" root "$tree" "$hash"
    try "the root cannot be mounted" mount -t erofs -o ro,nosuid,nodev /dev/mapper/root $ROOT
    rm -f /bin/veritysetup
}

open_config() {
    await block stelae-config || refuse "there is no config disk"
    mount -t tmpfs -o $QUIET,mode=0700,size=4m tmpfs $CONFIG
    read -r sectors <"/sys/block/$found/size"
    read_config "/dev/$found" $((sectors * 512))
}

start_network() {
    hostname "$hostname"
    for card in /sys/class/net/*; do
        card=${card##*/}
        [ "$card" = lo ] || break
    done
    [ "$card" != lo ] || refuse "there is no network device"
    echo 0 >"/proc/sys/net/ipv6/conf/$card/accept_ra"
    ip link set lo up
    try "the network does not take its address" ip address add "$address" dev "$card"
    try "the network does not come up" ip link set "$card" up
    try "the network does not take its gateway" ip route add default via "$gateway"
}

mount_devices() {
    # The folder is in this first file system already, with all that is in it.
    mount -o bind /devices $ROOT/dev
    mount -o remount,bind,ro,nosuid,noexec $ROOT/dev
    mount -t devpts -o nosuid,noexec,newinstance,ptmxmode=0666,mode=0620 devpts $ROOT/dev/pts
    mount -t mqueue -o $QUIET mqueue $ROOT/dev/mqueue
    grep -q ' /dev/shm$' $CONFIG/tmpfs || mount -t tmpfs -o $QUIET,mode=1777,size=64k tmpfs $ROOT/dev/shm
}

mount_kernel() {
    mount -t proc -o $QUIET proc $ROOT/proc
    mount -t sysfs -o $QUIET,ro sysfs $ROOT/sys
    # What a process of user 0 could change by its number alone, though it has no capability.
    for name in bus fs irq sys sysrq-trigger; do
        if [ -e "$ROOT/proc/$name" ]; then
            mount -o bind "$ROOT/proc/$name" "$ROOT/proc/$name"
            mount -o remount,bind,ro,$QUIET "$ROOT/proc/$name"
        fi
    done
}

mount_files() {
    for place in /dev /proc /sys; do
        is_below_root $place || refuse "the image has no $place to mount on"
    done
    mount_devices
    mount_kernel
    for name in hostname hosts resolv.conf; do
        [ -f "$ROOT/etc/$name" ] && [ ! -L "$ROOT/etc/$name" ] && is_below_root /etc ||
            refuse "the image has no /etc/$name to mount on"
        cat "$CONFIG/$name" >"/etc/$name"
        mount -o bind "/etc/$name" "$ROOT/etc/$name" && mount -o remount,bind,ro,$QUIET "$ROOT/etc/$name"
    done
}

mount_memory() {
    secrets=$(ls $CONFIG/secrets)
    if [ -n "$secrets" ] && ! is_below_root /run/secrets && ! grep -q ' /run$' $CONFIG/tmpfs; then
        is_below_root /run || refuse "the image has no /run to mount on"
        mount -t tmpfs -o $QUIET,mode=0755,size=64k tmpfs $ROOT/run
        mkdir $ROOT/run/secrets
        covered=yes
    fi
    while read -r bytes owner group place; do
        case $place in
            /run/*) [ -z "${covered:-}" ] || mkdir -p "$ROOT$place" ;;
        esac
        is_below_root "$place" || refuse "the image has no $place to mount on"
        try "memory cannot be mounted at $place" mount -t tmpfs \
            -o "$QUIET,size=$bytes,uid=$owner,gid=$group,mode=1777" tmpfs "$ROOT$place"
        [ "$place" != /run ] || [ -z "$secrets" ] || mkdir $ROOT/run/secrets
    done <$CONFIG/tmpfs
    [ -z "${covered:-}" ] || mount -o remount,ro $ROOT/run
    if [ -n "$secrets" ]; then
        mount -t tmpfs -o $QUIET,mode=0755,size=2m tmpfs $ROOT/run/secrets
        cp $CONFIG/secrets/* $ROOT/run/secrets/
        chown "$user" $ROOT/run/secrets/*
        mount -o remount,ro $ROOT/run/secrets
    fi
}

harden() {
    # From here on no module, no other kernel, no user namespace, whatever the process finds.
    echo 1 >/proc/sys/kernel/modules_disabled
    echo 1 >/proc/sys/kernel/kexec_load_disabled
    echo 0 >/proc/sys/user/max_user_namespaces
    echo 1 >/proc/sys/kernel/dmesg_restrict
    echo 0 >/proc/sys/kernel/sysrq
    echo 2 >/proc/sys/kernel/kptr_restrict
    echo 1 >/proc/sys/kernel/unprivileged_bpf_disabled
    echo 3 >/proc/sys/kernel/perf_event_paranoid
    ulimit -Sc 0
    ulimit -Hn 524288
}

start_process() {
    # The process's folder holds all that its start needs; nothing of it can be reached by a path from its root.
    mkdir -p $LAUNCH
    mv $CONFIG/args $CONFIG/env $CONFIG/cwd $LAUNCH/
    mv /start $LAUNCH/start
    ln /bin/busybox $LAUNCH/sh
    mkfifo $LAUNCH/out $LAUNCH/err $LAUNCH/said
    chown -R "$user" $LAUNCH/args $LAUNCH/env $LAUNCH/cwd $LAUNCH/start $LAUNCH/out $LAUNCH/err
    chmod 0711 $LAUNCH
    chmod 0755 $LAUNCH/start
    rm -rf $CONFIG/secrets
    cat <$LAUNCH/out >"$out" 3>&- &
    out_relay=$!
    cat <$LAUNCH/err >"$err" 3>&- &
    err_relay=$!
    watch_start &
    # In the foreground: what a shell starts in the background ignores the keyboard's signals. What this shell says of
    # a process that a signal ended is nobody's output.
    {
        (exec env -i /bin/capsh --drop=all --inh= --noamb --chroot=$ROOT --no-new-privs --groups= --gid="$gid" \
            --uid="$uid" --shell=/proc/self/fd/9/sh -- /proc/self/fd/9/start "$uid" \
            3>&- 8>$LAUNCH/said 9<$LAUNCH </dev/null >$LAUNCH/out 2>$LAUNCH/err)
        code=$?
    } 2>/dev/null
    # Where the process could not be started, that is said, and the machine ends meanwhile.
    until [ -e /begun ]; do
        usleep 100000
    done
}

watch_start() {
    read -r said <$LAUNCH/said || said="the process could not be started"
    case $said in
        "begun "*) ;;
        *) refuse "$said" ;;
    esac
    rm -rf $LAUNCH $CONFIG/* /bin/capsh /lib /lib64
    say begun
    touch /begun
    listen "${said#begun }" 2>/dev/null
}

listen() { # PID
    while :; do
        if read -r word <&3; then
            [ "$word" != stop ] || kill -TERM "$1"
        else
            sleep 1  # nobody is there; the port says so by an end
        fi
    done
}

end_others() {
    # What the process left behind ends with it; the relays end when nothing can write to them any more.
    for round in 1 2 3 4 5; do
        found=
        for entry in /proc/[0-9]*; do
            number=${entry#/proc/}
            case " 1 $out_relay $err_relay " in
                *" $number "*) continue ;;
            esac
            if [ -e "$entry/exe" ]; then
                kill -KILL "$number" && found=yes
            fi
        done 2>/dev/null
        [ -n "$found" ] || break
    done
    (sleep 20; kill -KILL "$out_relay" "$err_relay") 3>&- &
    wait "$out_relay" "$err_relay"
}

. /read-config
start_system
open_ports
open_root
open_config
start_network
mount_files
mount_memory
harden
start_process
end_others
say "exit $code"
end
