"""The witness as a person meets it; it needs no controller."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.unit.cli.test_cli_output import plain
from tests.unit.witness.conftest import SIGNER, Log

from stelae.ledger.note import COSIGNATURE, parse_vkey
from stelae.witness.witness import Witness

Stelae = Callable[..., Any]


def test_a_witness_is_made_trusts_a_log_and_shows_what_it_saw(stelae: Stelae, tmp_path: Path) -> None:
    folder = str(tmp_path / "w")
    key = plain(stelae("witness", "init", folder, "witness.example/ana")).strip()
    assert parse_vkey(key, COSIGNATURE).name == "witness.example/ana"
    log = SIGNER.verifier.vkey
    assert plain(stelae("witness", "trust", folder, log)) == "  example.com/log is cosigned from now on\n"
    assert plain(stelae("witness", "trust", folder, f" {log}\n")) == "  example.com/log was known already\n"
    shown = plain(stelae("witness", "show", folder))
    assert shown == f"  {key}\n  example.com/log  0 leaves, cosigned never\n"
    witness = Witness(tmp_path / "w")
    witness.add_checkpoint(Log(9).asked(0, 9))
    assert "9 leaves, cosigned 2" in plain(stelae("witness", "show", folder))
    witness.add_checkpoint(Log(9, seed="x").asked(0, 9))
    witness.close()
    ran = stelae("witness", "show", folder)
    assert (ran.code, "another root of a size that was cosigned" in ran.out) == (1, True)
    assert "example.com/log signed two histories" in ran.out
    ran = stelae("witness", "show", folder, "--json")
    found = json.loads(ran.out)
    assert found["refused"][0]["checkpoint"].startswith("example.com/log\n9\n")


def test_what_is_wrong_is_said(stelae: Stelae, tmp_path: Path) -> None:
    folder = str(tmp_path / "w")
    assert stelae("witness", "init", folder, "a b").code == 2
    assert stelae("witness", "init", folder, "w.example/b").code == 0
    ran = stelae("witness", "init", folder, "w.example/b")
    assert (ran.code, "a witness already" in ran.err) == (4, True)
    assert stelae("witness", "trust", folder, "k-1").code == 2
    other = type(SIGNER)("example.com/log", b"y" * 32).verifier.vkey
    assert stelae("witness", "trust", folder, SIGNER.verifier.vkey).code == 0
    assert stelae("witness", "trust", folder, other).code == 4
    for verb in (("show",), ("run",), ("trust", SIGNER.verifier.vkey)):
        ran = stelae("witness", verb[0], str(tmp_path / "none"), *verb[1:])
        assert (ran.code, "no witness" in ran.err) == (1, True)
    ran = stelae("witness", "run", folder, "--listen", "nowhere")
    assert (ran.code, "not an address" in ran.err) == (2, True)
