# The first process of a machine's container: holds QEMU, asks the machine to end, and ends with the status that the
# machine's program ended with. Its arguments are QEMU's command line.
umask 077
mkfifo control.in control.out kernel
# Opened for both ways first, nobody waits for the other end; and who reads comes to an end when all have let go.
exec 3>&1 4>&2 5<>control.in 6<>control.out 7<>kernel 8<control.out 9<kernel
trap 'echo stop >&5' TERM
cat <&8 >told 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &
told=$!
# What the kernel says is told only when it ends the machine, or its program: else the output is the program's alone.
tail -n 30 <&9 >last 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &
last=$!
exec 8>&- 9>&-
"$@" </dev/null >&4 2>&4 5>&- 6>&- 7>&- &
machine=$!
while :; do
    wait "$machine"
    status=$?
    kill -0 "$machine" 2>/dev/null || break
done
exec 6>&- 7>&-
wait "$told" "$last"
code= refused=
while read -r word rest; do
    case $word in
    exit) code=$rest ;;
    refused) refused=$rest ;;
    esac
done <told
case $code in
[0-9] | [0-9][0-9] | 1[0-9][0-9] | 2[0-5][0-9]) ended=$code ;;
*) ended=256 ;;
esac
if [ "$ended" -ge 256 ] || [ "$ended" -eq 137 ]; then
    tr -d '\r' <last >&2
fi
[ "$ended" -ge 256 ] || exit "$ended"
# The reason once more, as the last words: these are what a record keeps.
tr -d '\r' <last | sed -n 's/^\[[^]]*\] *//; /^device-mapper: verity/p; /^Kernel panic/p' | tail -n 3 >&2
if [ -n "$refused" ]; then
    printf 'the machine did not start its program: %s\n' "$refused" >&2
elif [ "$status" -ne 0 ]; then
    printf 'QEMU ended with status %s\n' "$status" >&2
    [ "$status" -ne 137 ] || exit 137 # by the kernel of the host: perhaps for want of memory, which is told then
else
    printf 'the machine stopped, and did not say how its program ended\n' >&2
fi
exit 1
