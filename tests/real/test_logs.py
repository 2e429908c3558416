"""``stelae logs -f`` on a real instance that writes faster than a log file may grow."""

from __future__ import annotations

import pytest

from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.platforms.local.logs import log_files
from stelae.platforms.local.place import place_of
from tests.real import tiny
from tests.real.machine import Machine

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

BURSTS, LINES, WIDTH = 22, 5_000, 250
TALK = f"""i=0
while [ $i -lt {BURSTS} ]; do
  /app/busybox awk -v b=$i 'BEGIN {{ for (j = 0; j < {LINES}; j++) printf "%d %0{WIDTH}d\\n", b * {LINES} + j, 0 }}'
  /app/busybox sleep 0.1
  i=$((i + 1))
done
echo over
exec /app/busybox sleep 3600
"""
TALKER = '[process.talker]\ncommand = ["/app/busybox", "sh", "/app/talk.sh"]\nmemory = "32MiB"\nstop = "0s"\n'


def test_following_across_rotation_loses_and_doubles_no_line() -> None:
    with Machine(seed=False) as machine:
        tiny.make(machine.start(), more=TALKER)
        machine.edit("stelae.toml", "web = 2", "web = 1, talker = 1").write("talk.sh", TALK).commit("talk")
        machine.cli("env", "apply")
        machine.cli("deploy", "testing")
        with machine.background("logs", "testing", "-f", "--process", "talker") as following:
            assert following.stdout is not None
            number = 0
            for line in following.stdout:
                name, _, text = line.rstrip("\n").partition(" | ")
                if text == "over":
                    break
                assert text == f"{number} {0:0{WIDTH}d}", line[:200]
                number += 1
            assert number == BURSTS * LINES
            place = place_of(machine.installation, EnvironmentId("tiny/testing"), InstanceId(name))
            assert len(log_files(place.logs)) > 2
            machine.cli("down", "tiny")
            assert following.wait(30) == 0  # its instance has ended
        later = machine.cli("logs", "testing", "--instance", name).stdout.splitlines()
        assert len(later) == BURSTS * LINES + 1
        assert later[-1] == f"{name} | over"
