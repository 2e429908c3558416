"""What an exported log says of itself to somebody who has nothing of Stelae."""

from __future__ import annotations

PROGRAM = """\
import base64, hashlib, json, subprocess, sys, tempfile

def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()

def file_of(number, width):
    text = "%03d" % (number % 1000)
    while number >= 1000:
        number //= 1000
        text = "x%03d/%s" % (number % 1000, text)
    return "tile/entries/" + text + ("" if width == 256 else ".p/%d" % width)

key = sys.argv[1] if len(sys.argv) > 1 else open("log.vkey").read().strip()
name, identity, public = key.split("+", 2)
typed = base64.b64decode(public)
assert typed[0] == 1 and sha(name.encode(), b"\\n", typed)[:4].hex() == identity, "not a key"
note = open("checkpoint", "rb").read()
text, _, lines = note.rpartition(b"\\n\\n")
text += b"\\n"
for line in lines.decode().splitlines():
    _, signer, signed = line.split(" ")
    signature = base64.b64decode(signed)
    if signer == name and signature[:4].hex() == identity:
        break
else:
    sys.exit("WRONG: the checkpoint is not signed by this key")
with tempfile.NamedTemporaryFile() as k, tempfile.NamedTemporaryFile() as t, tempfile.NamedTemporaryFile() as s:
    for file, data in ((k, bytes.fromhex("302a300506032b6570032100") + typed[1:]), (t, text), (s, signature[4:])):
        file.write(data)
        file.flush()
    words = ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", k.name, "-rawin", "-in", t.name]
    if subprocess.run(words + ["-sigfile", s.name], stdout=subprocess.DEVNULL).returncode:
        sys.exit("WRONG: the signature of the checkpoint")
origin, size, root = text.decode().split("\\n")[:3]
assert origin == name, "the checkpoint of another log"
size, peaks = int(size), []
for first in range(0, size, 256):
    width = min(256, size - first)
    data = open(file_of(first // 256, width), "rb").read()
    place = 0
    for index in range(first, first + width):
        end = place + 2 + int.from_bytes(data[place:place + 2], "big")
        held = json.loads(data[place + 2:end]).get("held")
        if held and sha(open("held/sha256/" + held["digest"][7:], "rb").read()).hex() != held["digest"][7:]:
            sys.exit("WRONG: the body of entry %d" % index)
        hash_, left, place = sha(b"\\0", data[place + 2:end]), index, end
        while left & 1:
            hash_, left = sha(b"\\1", peaks.pop(), hash_), left >> 1
        peaks.append(hash_)
    assert place == len(data), "more than %d entries from %d on" % (width, first)
found = peaks.pop()
while peaks:
    found = sha(b"\\1", peaks.pop(), found)
if base64.b64encode(found).decode() != root:
    sys.exit("WRONG: the entries are not those of the checkpoint")
print("%d entries of %s are those that its key has signed" % (size, origin))
"""

_TEXT = """\
The record of a Stelae installation, as a log
=============================================

This archive has what that installation recorded, from its first event up to a signed checkpoint: who deployed what
and when, of which image, which instances ran, and what went wrong. Nothing in it is secret to begin with: it has the
names of secrets and no value, and no private key.

Log          {origin}
Events       {size} (0 to {last})
Root         {root}
Key          {vkey}

What is here
------------
checkpoint           the log's name, size and root, signed (C2SP tlog-checkpoint, a signed note, Ed25519)
log.vkey             the public key. It came with this archive, so it proves nothing by itself: compare it with the
                     key that you were given before, by somebody you trust
tile/entries/...     the events, 256 a file, each after its length (two bytes, high byte first); canonical JSON
tile/0/..., ...      the hashes of the Merkle tree over them (C2SP tlog-tiles; RFC 6962, SHA-256)
held/sha256/...      if it is there: the `body` of events that are too long for a file of events (65,535 bytes);
                     such an event has `held` in place of its `body`, with the SHA-256 of that file
evidence/...         if it is there: signatures, provenance and lists of contents (SBOM) of the images that the events
                     name, as an OCI image layout; `referrers` lists what speaks of which image

The formats are those of https://c2sp.org/tlog-tiles, https://c2sp.org/tlog-checkpoint, https://c2sp.org/signed-note.
What is too large for an event, such as a list of contents, is named in it by its SHA-256 and is below evidence/blobs.

To check it with Stelae, without a controller
---------------------------------------------
    stelae audit check ARCHIVE --key KEY

To check it with what every machine has
---------------------------------------
Unpack it with tar, save the program below as check.py beside this file, read it, and run it with the key that you
were given (Python 3.8 or newer, OpenSSL 3):

    python3 check.py KEY

It checks the signature and computes the root from the events alone. Any client of C2SP tiles, such as Go's
golang.org/x/mod/sumdb, does it too. To read the events: each is one JSON object, `at` is microseconds since 1970.

What this proves: these are all events of that log up to the checkpoint, as they were recorded, in this order. What
it does not prove: that the installation recorded everything, or that nobody with its key made another log. For the
latter, compare the checkpoint with one that somebody else has kept (a receipt of a deployment has one, too).

----8<---- check.py
{program}----8<----
"""


def readme(origin: str, size: int, root: str, vkey: str) -> bytes:
    """Return the text for a log of *size* events."""
    return _TEXT.format(
        origin=origin, size=size, last=size - 1, root=root, vkey=vkey, program=PROGRAM
    ).encode()  # fmt: skip
