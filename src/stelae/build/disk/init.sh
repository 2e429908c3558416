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
    reason=$(printf '%s' "$1" | tr -d '[:cntrl:]')
    echo "stelae: refused: $reason" >/dev/console
    say "refused $reason"
    end
}

try() {
    what=$1
    shift
    "$@" >/dev/null || refuse "$what"
}

put() { # PLACE OPTION...: mounts something in the root; what is not mounted, or not in this way, starts no process
    put=$1
    shift
    try "nothing can be mounted at $put" mount "$@" "$ROOT$put"
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

is_plain() { # PATH: it is absolute, and leads nowhere but down
    case $1/ in
        *//* | */./* | */../* | [!/]*) return 1 ;;
    esac
}

is_below_root() { # PATH: a folder of the root, and no symbolic link on the way
    is_plain "$1" || return 1
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
    put /dev -o bind /devices
    put /dev -o remount,bind,ro,nosuid,noexec
    put /dev/pts -t devpts -o nosuid,noexec,newinstance,ptmxmode=0666,mode=0620 devpts
    put /dev/mqueue -t mqueue -o $QUIET mqueue
    grep -q ' /dev/shm$' $CONFIG/tmpfs || put /dev/shm -t tmpfs -o $QUIET,mode=1777,size=64k tmpfs
}

mount_kernel() {
    put /proc -t proc -o $QUIET proc
    put /sys -t sysfs -o $QUIET,ro sysfs
    # What a process of user 0 could change by its number alone, though it has no capability.
    for name in bus fs irq sys sysrq-trigger; do
        if [ -e "$ROOT/proc/$name" ]; then
            put "/proc/$name" -o bind "$ROOT/proc/$name"
            put "/proc/$name" -o remount,bind,ro,$QUIET
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
        try "there is no memory for /etc/$name" cp "$CONFIG/$name" "/etc/$name"
        chmod 0644 "/etc/$name"
        put "/etc/$name" -o bind "/etc/$name"
        put "/etc/$name" -o remount,bind,ro,$QUIET
    done
}

mount_memory() {
    secrets=$(ls $CONFIG/secrets) covered=
    if [ -n "$secrets" ] && ! is_below_root /run/secrets && ! grep -q ' /run$' $CONFIG/tmpfs; then
        is_below_root /run || refuse "the image has no /run to mount on"
        put /run -t tmpfs -o $QUIET,mode=0755,size=64k tmpfs
        mkdir $ROOT/run/secrets
        covered=yes
    fi
    while read -r bytes owner group place || [ -n "$bytes" ]; do
        case $covered$place in
            yes/run/*) ! is_plain "$place" || mkdir -p "$ROOT$place" ;;
        esac
        is_below_root "$place" || refuse "the image has no $place to mount on"
        put "$place" -t tmpfs -o "$QUIET,size=$bytes,uid=$owner,gid=$group,mode=1777" tmpfs
        [ "$place" != /run ] || [ -z "$secrets" ] || mkdir $ROOT/run/secrets
    done <$CONFIG/tmpfs
    [ -z "$covered" ] || put /run -o remount,ro
    if [ -n "$secrets" ]; then
        put /run/secrets -t tmpfs -o $QUIET,mode=0755,size=2m tmpfs
        try "there is no memory for the secrets" cp $CONFIG/secrets/* $ROOT/run/secrets/
        try "the secrets cannot be given to their user" chown "$user" $ROOT/run/secrets/*
        put /run/secrets -o remount,ro
    fi
}

harden() {
    # From here on no module, no other kernel, no user namespace, whatever the process finds.
    for entry in kernel/modules_disabled=1 kernel/kexec_load_disabled=1 user/max_user_namespaces=0 \
        kernel/dmesg_restrict=1 kernel/kptr_restrict=2 kernel/sysrq=0 kernel/unprivileged_bpf_disabled=1 \
        kernel/perf_event_paranoid=3; do
        file=/proc/sys/${entry%=*}
        # Not each kernel has all of it to switch off.
        [ ! -e "$file" ] || echo "${entry#*=}" >"$file" || refuse "the kernel does not take $entry"
    done
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
