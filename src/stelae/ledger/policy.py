"""Trust policies (C2SP tlog-policy): which logs, which witnesses, and how many of them make a checkpoint believable.

    log VKEY [URL]
    witness NAME VKEY [URL]
    group NAME all|any|K MEMBER...
    quorum NAME|none

One item a line, words parted by spaces or tabs; ``#`` begins a comment line. A group or the quorum names only what a
line above it has defined, and each name is a member of one group at most, so that every witness counts once.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from stelae.domain.errors import Failed, InvalidInput
from stelae.ledger.checkpoint import Checkpoint, parse_checkpoint
from stelae.ledger.note import COSIGNATURE, Verifier, cosigned_at, parse_note, parse_vkey, plain_text

LONGEST = 24 * 1024
"""The longest policy that is read, in bytes: it goes into one event of the record."""

NONE = "none"
"""The quorum that needs nobody."""

_FORMS = "log VKEY [URL] · witness NAME VKEY [URL] · group NAME all|any|K MEMBER... · quorum NAME|none"
_BAD = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_NUMBER = re.compile(r"[1-9][0-9]{0,3}")


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness: *name* is only known to the policy. ``url`` is where it is asked, "" where nobody asks it."""

    name: str
    verifier: Verifier
    url: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """So many (``least``) of its members, each a witness or another group, have to have cosigned."""

    name: str
    least: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cosigned:
    """What a policy finds of a signed checkpoint: ``by`` are names of witnesses, with the seconds since 1970 when
    they cosigned it last; ``missing`` says in words what the quorum lacks, "" when it is there."""

    checkpoint: Checkpoint
    by: Mapping[str, int] = field(default_factory=dict)
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that was read; ``logs`` may be empty where the log is known otherwise."""

    logs: tuple[Verifier, ...]
    witnesses: Mapping[str, Witness]
    groups: Mapping[str, Group]
    quorum: str

    def look(self, data: bytes, log: Verifier | None = None) -> Cosigned:
        """Return what the policy finds of the signed checkpoint *data*, of *log* or else of one of its own logs.

        Raises InvalidInput when *data* is no checkpoint or no log is known, Failed when none of the logs signed it,
        or a signature is not what it says to be.
        """
        logs = self.logs if log is None else (log,)
        if not logs:
            raise InvalidInput("the policy names no log", hint="give the log's key, too: --key")
        note = parse_note(data)
        checkpoint = parse_checkpoint(note.text)
        if checkpoint.origin not in {signer.name for signer in note.verified(logs)}:
            raise Failed(f"the checkpoint is of the log {checkpoint.origin}, whose key did not sign it")
        names = {witness.verifier: name for name, witness in self.witnesses.items()}
        by: dict[str, int] = {}
        for verifier, signature in note.signed_by(tuple(names)):
            name = names[verifier]
            by[name] = max(by.get(name, 0), cosigned_at(signature.signature))
        return Cosigned(checkpoint, by, self.missing(by))

    def missing(self, cosigned: Collection[str]) -> str:
        """Return what the quorum lacks when these witnesses have cosigned, "" when it is there."""
        return "" if self.quorum == NONE else self._missing(self.quorum, cosigned)

    def _missing(self, name: str, cosigned: Collection[str]) -> str:
        group = self.groups.get(name)
        if group is None:
            return "" if name in cosigned else f"the witness {name}"
        lacking = [found for member in group.members if (found := self._missing(member, cosigned))]
        more = group.least - (len(group.members) - len(lacking))
        if more <= 0:
            return ""
        text = ", ".join(lacking)
        return text if more == len(lacking) == 1 else f"{more} of ({text})"


def parse_policy(data: bytes) -> Policy:
    """Return the policy in *data*; raises InvalidInput, which names the line."""
    text = plain_text(data, "a policy", LONGEST, _BAD)
    reader = _Reader()
    for number, line in enumerate(text.split("\n"), 1):
        words = line.replace("\t", " ").split(" ")
        if found := [word for word in words if word]:
            try:
                reader.take(found)
            except InvalidInput as error:
                raise InvalidInput(error.message, where=f"line {number}", hint=error.hint) from error
    return reader.policy()


class _Reader:
    def __init__(self) -> None:
        self.logs: list[Verifier] = []
        self.witnesses: dict[str, Witness] = {}
        self.groups: dict[str, Group] = {}
        self.quorum = ""
        self.members: set[str] = set()

    def take(self, words: list[str]) -> None:
        match words:
            case [word, *_] if word.startswith("#"):
                return
            case ["log", vkey, *url] if len(url) < 2:
                verifier = parse_vkey(vkey)
                self._new_key(verifier, self.logs)
                _checked_url("".join(url))
                self.logs.append(verifier)
            case ["witness", name, vkey, *url] if len(url) < 2:
                verifier = parse_vkey(vkey, COSIGNATURE)
                self._new_key(verifier, [witness.verifier for witness in self.witnesses.values()])
                self.witnesses[self._new(name)] = Witness(name, verifier, _checked_url("".join(url)))
            case ["group", name, least, *members] if members:
                self._group(name, least, members)
            case ["quorum", name]:
                if self.quorum:
                    raise InvalidInput("a second quorum: there is one")
                if name != NONE:
                    self._known(name)
                self.quorum = name
            case _:
                raise InvalidInput(
                    f"not understood: {' '.join(words)[:80]}",
                    hint=_FORMS,
                )

    def policy(self) -> Policy:
        if not self.quorum:
            raise InvalidInput("the policy has no quorum", hint="its last line: quorum NAME, or quorum none")
        return Policy(tuple(self.logs), self.witnesses, self.groups, self.quorum)

    def _group(self, name: str, least: str, members: list[str]) -> None:
        for member in members:
            self._known(member)
            if member in self.members:
                raise InvalidInput(f"{member} is a member twice: every witness counts once")
            self.members.add(member)
        if least not in ("all", "any") and not _NUMBER.fullmatch(least):
            raise InvalidInput(f"not a number of members: {least}", hint="all, any, or a number from 1 on")
        count = {"all": len(members), "any": 1}.get(least) or int(least)
        if count > len(members):
            raise InvalidInput(f"{count} of {len(members)} members cannot be")
        self.groups[self._new(name)] = Group(name, count, tuple(members))

    def _new(self, name: str) -> str:
        if name == NONE or name in self.witnesses or name in self.groups:
            raise InvalidInput(f"the name {name} is taken")
        return name

    def _known(self, name: str) -> None:
        if name not in self.witnesses and name not in self.groups:
            raise InvalidInput(f"no line above defines {name}")

    @staticmethod
    def _new_key(verifier: Verifier, known: Collection[Verifier]) -> None:
        if any(verifier.public == other.public for other in known):
            raise InvalidInput(f"the key of {verifier.name} is there already")


def _checked_url(url: str) -> str:
    if url:
        try:
            parts = urlsplit(url)
            fine = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) and url.isascii()
        except ValueError:
            fine = False
        if not fine or parts.query or parts.fragment:
            raise InvalidInput(f"not an address: {url}", hint="http://HOST[:PORT][/PATH], or https")
    return url
