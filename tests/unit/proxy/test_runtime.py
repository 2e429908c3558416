"""What a worker says, and what follows from it; against a worker that is made up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stelae.domain.allocation import InstanceId
from stelae.domain.environment import EnvironmentId
from stelae.platforms.local.proxy.runtime import Answer, Server, ask, total_sessions
from stelae.platforms.local.proxy.sync import Differences, differences
from stelae.platforms.local.proxy.table import Backend, Slot, Table

SHOWN = (
    """
1
# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight and so on
3 b0 1 s0 10.0.0.5 2 4 7 1 0 1 0 0 8 0 0 0 - 9192 - 0 0 - - 0
3 b0 2 s1 127.0.0.1 0 5 5 5 0 1 0 2 0 0 0 0 - 1 - 0 0 - - 0

# pxname,svname,qcur
b0,s0,1,0,2,1,,"""
    + "," * 60
    + """

0x55d2f0 x.example b0
0x55d2f1 x.example b1

No such server.
"""
)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Callable[[Callable[[bytes], bytes]], Path]]:
    listener = socket.socket(socket.AF_UNIX)
    path = tmp_path / "w.sock"
    listener.bind(str(path))
    listener.listen()
    threads = []

    def start(answer: Callable[[bytes], bytes]) -> Path:
        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(answer(connection.recv(1 << 16)))

        thread = threading.Thread(target=serve)
        thread.start()
        threads.append(thread)
        return path

    yield start
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for thread in threads:
        thread.join()


def test_the_answer_is_sorted_by_the_form_of_its_lines(worker: Callable[[Callable[[bytes], bytes]], Path]) -> None:
    path = worker(lambda _: SHOWN.encode())
    answer = ask(path, ["show servers state b0"])
    assert answer.servers["b0", "s0"] == Server(address="10.0.0.5", port=9192, weight=7, admin=4, operational=2)
    assert answer.servers["b0", "s0"].eligible
    assert answer.servers["b0", "s1"].maintenance
    assert answer.sessions == {("b0", "s0"): 3}
    assert answer.names == {"x.example": ["b0", "b1"]}
    assert answer.words == ["No such server."]
    assert answer.has_backend("b0")
    assert not answer.has_backend("b1")
    assert total_sessions([answer, answer]) == {("b0", "s0"): 6}


def test_many_commands_go_in_few_lines_and_stay_in_order(worker: Callable[[Callable[[bytes], bytes]], Path]) -> None:
    lines: list[bytes] = []

    def record(line: bytes) -> bytes:
        lines.append(line)
        return b"\n"

    commands = [f"set server b0/s{n} state ready" for n in range(1000)]
    ask(worker(record), commands)
    assert all(len(line) < 8100 for line in lines)
    assert len(lines) < 6
    assert [part for line in lines for part in line.decode().strip().split(";")] == commands


def test_a_worker_that_says_nothing_or_is_not_there_is_an_error(
    worker: Callable[[Callable[[bytes], bytes]], Path], tmp_path: Path
) -> None:
    with pytest.raises(OSError, match="no answer"):
        ask(worker(lambda _: b""), ["show info"])
    with pytest.raises(FileNotFoundError):
        ask(tmp_path / "missing.sock", ["show info"])


def test_a_worker_that_hangs_is_given_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "w.sock"))
        listener.listen()
        with pytest.raises(TimeoutError):
            ask(tmp_path / "w.sock", ["show info"], timeout=0.05)


OUT = {"admin": 5, "operational": 0}


def slot(name: str, *, draining: bool = False, weight: int = 10) -> Slot:
    return Slot(instance=InstanceId(name), address="10.0.0.5", port=8000, weight=weight, draining=draining)


def table(*slots: Slot | None, hosts: tuple[str, ...] = ()) -> Table:
    return Table(backends=(Backend(environment=EnvironmentId("a/b"), hosts=hosts, slots=slots),))


def server(address: str = "10.0.0.5", weight: int = 10, *, admin: int = 0, operational: int = 2) -> Server:
    return Server(address=address, port=8000, weight=weight, admin=admin, operational=operational)


def commands(found: Differences) -> list[str]:
    return [command for step in found.steps for command in step]


def test_no_difference_is_no_command() -> None:
    seen = Answer(
        servers={("b0", "s0"): server(), ("b0", "s1"): server(**OUT), ("b0", "s2"): server(admin=8)},
        names={"x.example": ["b0"]},
    )
    found = differences(table(slot("a"), None, slot("c", draining=True), hosts=("x.example",)), [0], seen)
    assert commands(found) == []
    assert found.sentences == []


def test_new_ones_are_in_before_old_ones_are_out() -> None:
    seen = Answer(servers={("b0", "s0"): server(), ("b0", "s1"): server("127.0.0.1", 1, **OUT)})
    found = differences(table(slot("a", draining=True), slot("b")), [0], seen)
    assert commands(found) == [
        "set server b0/s1 addr 10.0.0.5 port 8000",
        "set server b0/s1 weight 10",
        "set server b0/s1 state ready",
        "set server b0/s0 state drain",
    ]


def test_a_server_beyond_the_configuration_is_added() -> None:
    found = differences(table(slot("a")), [0], Answer())
    assert commands(found) == ["add server b0/s0 10.0.0.5:8000 weight 10", "set server b0/s0 state ready"]


def test_what_gets_requests_and_should_not_is_a_leak() -> None:
    seen = Answer(
        servers={
            ("b0", "s0"): server(),
            ("b0", "s1"): server(),
            ("b0", "s2"): server(),
            ("b0", "s3"): server(weight=3),
        }
    )
    found = differences(table(slot("a", draining=True), None, None, slot("d")), [0], seen)
    assert found.leaks == [
        "b0/s0 gets new requests and a should get none",
        "b0/s1 (10.0.0.5:8000) is in use and no instance has it",
        "b0/s2 (10.0.0.5:8000) is in use and no instance has it",
    ]
    assert len(found.sentences) == 4


def test_a_forgotten_server_that_drains_goes_into_maintenance() -> None:
    found = differences(table(None), [0], Answer(servers={("b0", "s0"): server(admin=8)}))
    assert commands(found) == ["set server b0/s0 state maint"]


def test_names_are_added_changed_doubled_ones_cleared_and_others_taken_away() -> None:
    seen = Answer(names={"changed.example": ["b7"], "double.example": ["b0", "b7"], "gone.example": ["b0"]})
    found = differences(table(hosts=("changed.example", "double.example", "new.example")), [0], seen)
    assert commands(found) == [
        "set map hosts.map changed.example b0",
        "del map hosts.map double.example",
        "add map hosts.map double.example b0",
        "add map hosts.map new.example b0",
        "del map hosts.map gone.example",
    ]
