#!/bin/busybox sh
# The last thing before the process: runs as its user, in its root, without any privilege. File 9 is the folder of its
# start, file 8 leads to the first program of the machine. Both are closed when the process begins.
here=/proc/self/fd/9 user=$1

refuse() {
    echo "$1" >&8
    exit 127
}

text() { # FILE: its bytes, with the line breaks at its end, which $(cat) would take away
    IFS= read -r -d '' value <"$1"
}

home() {
    while IFS=: read -r _ _ number _ _ folder _; do
        if [ "$number" = "$user" ]; then
            echo "${folder:-/}"
            return
        fi
    done </etc/passwd
    echo /
}

program() { # NAME: sets where it is; the shell's own search would find its own commands first
    program=$1
    case $1 in
        */*) return 0 ;;
    esac
    rest=${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}:
    while [ -n "$rest" ]; do
        program=${rest%%:*}/$1 rest=${rest#*:}
        [ ! -f "$program" ] || [ ! -x "$program" ] || return 0
    done
    return 1
}

text $here/cwd
cd "$value" 2>/dev/null || refuse "the process cannot go to its folder $value"
set --
for file in $here/args/*; do
    text "$file"
    set -- "$@" "$value"
done
unset PWD OLDPWD PATH IFS SHLVL
export HOME="$(home 2>/dev/null)"
# Last, because a variable may have a meaning for this shell, too.
for file in $here/env/*; do
    [ ! -e "$file" ] || { text "$file"; export "${file##*/}=$value"; }
done
program "$1" || refuse "the image has no program $1"
[ -x "$program" ] || refuse "the image has no program $1"
name=$1
shift
echo "begun $$" >&8
exec -a "$name" "$program" "$@" 8>&- 9>&-
