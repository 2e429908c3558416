# Reads a config disk: a block with a header, then an archive of plain files. Whatever is not as it must be is refused
# with a reason, which holds nothing of the disk. Whoever reads this has "refuse", which does not come back, and CONFIG,
# an empty folder. tests/unit/build/disk/test_config_disk.py tries it with what could be wrong.

MOST=1048576  # bytes of a config disk
NAMES='(args/[0-9]{3}|env/[A-Za-z_][A-Za-z0-9_]{0,127}|secrets/[A-Za-z0-9_][A-Za-z0-9._-]{0,127}|user|cwd|address|gateway|hostname|hosts|resolv\.conf|tmpfs)'
BYTE='(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])'

one() { # FILE PATTERN: sets "value" to the one line that the file of the config disk has
    value='' more=''
    {
        IFS= read -r value
        IFS= read -r more
    } <"$CONFIG/$1"
    [ -z "$more" ] && printf '%s\n' "$value" | grep -qxE -e "$2" || refuse "the config disk has a wrong $1"
}

read_config() { # DEVICE BYTES
    check_header "$1" "$2"
    unpack_config
    for name in args/000 user cwd address gateway hostname hosts resolv.conf tmpfs; do
        [ -f "$CONFIG/$name" ] || refuse "the config disk lacks $name"
    done
    [ "$(cat "$CONFIG"/args/* "$CONFIG"/env/* 2>/dev/null | tr -dc '\0' | wc -c)" = 0 ] ||
        refuse "the config disk holds a NUL in an argument or a variable"
    set -- "$CONFIG"/args/*
    last=$((1000 + $# - 1))  # 1, and then the number as it is in the last one's name
    for name in "$@"; do :; done
    [ "${name##*/}" = "${last#1}" ] || refuse "the config disk lacks an argument"
    one user '[0-9]{1,9}:[0-9]{1,9}'
    user=$value uid=${value%:*} gid=${value#*:}
    one hostname '[A-Za-z0-9][A-Za-z0-9._-]{0,62}'
    hostname=$value
    one address "($BYTE\.){3}$BYTE/([1-9]|[12][0-9]|3[0-2])"
    address=$value
    one gateway "($BYTE\.){3}$BYTE"
    gateway=$value
    one cwd '/.*'
    [ "$(grep -cvxE -e '[0-9]{1,15} [0-9]{1,9} [0-9]{1,9} /[^[:cntrl:]]+' "$CONFIG/tmpfs")" = 0 ] ||
        refuse "the config disk has a wrong tmpfs"
}

check_header() { # DEVICE BYTES
    [ "$2" -gt 512 ] && [ "$2" -le $MOST ] || refuse "the config disk has a wrong size: $2 bytes"
    header=
    IFS= read -r header <"$1"
    length=${header#stelae-config 1 } digest=${header##* }
    length=${length%% *}
    case $length in
        '' | *[!0-9]* | ????????*) header= ;;
    esac
    case $digest in
        '' | *[!0-9a-f]*) header= ;;
    esac
    [ "$header" = "stelae-config 1 $length $digest" ] && [ ${#digest} = 64 ] ||
        refuse "the config disk has no header that is known here"
    [ "$length" -eq $(($2 - 512)) ] || refuse "the config disk has a wrong size: $2 bytes"
    dd if="$1" bs=512 skip=1 of="$CONFIG/archive" 2>/dev/null
    [ "$(sha256sum <"$CONFIG/archive")" = "$digest  -" ] ||
        refuse "the config disk has another digest than its header says"
}

unpack_config() {
    tar tvf "$CONFIG/archive" >"$CONFIG/list" 2>/dev/null || refuse "the config disk holds no archive"
    # Plain files with names that are known, and nothing else: no folder, no link, no device, no other owner or mode.
    [ "$(grep -cvxE -e "-r-------- 0/0 +[0-9]+ 1970-01-01 00:00:00 $NAMES" "$CONFIG/list")" = 0 ] ||
        refuse "the config disk holds a file that it must not hold"
    expected=$(wc -l <"$CONFIG/list")
    rm "$CONFIG/list"
    mkdir "$CONFIG/args" "$CONFIG/env" "$CONFIG/secrets"
    tar xf "$CONFIG/archive" -C "$CONFIG" || refuse "the config disk cannot be unpacked"
    rm "$CONFIG/archive"
    # Fewer files than lines: a name was there twice, or went over two lines.
    [ "$(find "$CONFIG" -type f -print0 | tr -dc '\0' | wc -c)" = "$expected" ] || refuse "the config disk holds a name twice"
}
