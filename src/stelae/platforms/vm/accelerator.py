"""Whether this machine really runs virtual machines itself (KVM), found by running one.

That ``/dev/kvm`` can be opened says little: inside a machine that is virtual itself, what runs there may die at its
first step. So a boot sector is run that does nothing but end QEMU with a status of its own choice.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from stelae.domain.errors import Failed, Unreachable
from stelae.platforms.vm.command import PROGRAM
from stelae.system.command import run

KVM = Path("/dev/kvm")

# mov dx, 0x501; mov al, 0x10; out dx, al; hlt; jmp to the hlt; and the mark of a boot sector
SECTOR = bytes.fromhex("ba0105 b010 ee f4 ebfd").ljust(510, b"\0") + b"\x55\xaa"
STATUS = 0x10 << 1 | 1  # isa-debug-exit ends QEMU with this one
_SECONDS = 5.0


@cache
def accelerator() -> str:
    """Return ``kvm`` where a machine ran by it, else ``tcg`` (software emulation). It is found out once."""
    return "kvm" if not kvm_problem() else "tcg"


def kvm_problem() -> str:
    """Return why machines cannot be run by KVM, in words; "" when one was."""
    if not KVM.exists():
        return f"there is no {KVM}"
    with tempfile.NamedTemporaryFile(prefix="stelae-kvm-") as file:
        file.write(SECTOR)
        file.flush()
        try:
            status = run(command(file.name), check=False, timeout=_SECONDS).status
        except Unreachable as error:
            return error.message
        except Failed:
            return f"a machine that was tried by {KVM} did nothing within {_SECONDS:g} s"
    return "" if status == STATUS else f"a machine that was tried by {KVM} ended with status {status}"


def command(sector: str) -> list[str]:
    """Return what runs the boot sector in the file *sector*; it ends with ``STATUS``."""
    return [
        PROGRAM, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-sandbox", "on",
        "-machine", "q35", "-accel", "kvm", "-m", "64M", "-device", "isa-debug-exit,iobase=0x501,iosize=0x02",
        "-drive", f"file={sector},format=raw,if=floppy,readonly=on", "-boot", "a",
    ]  # fmt: skip
