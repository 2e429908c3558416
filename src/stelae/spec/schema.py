"""The form of ``stelae.toml`` as a JSON Schema (draft 2020-12), which the parser checks first.

``stelae.schema.json`` beside this module is the same, for editors. ``description`` says what a key is for;
``title`` says what a value must be, and is what an error prints after "expected".
"""

from __future__ import annotations

import json

from stelae.spec import drift, jobs, platform, promotion, scaling, secrets, strategy_form, units
from stelae.spec.forms import YES, Schema
from stelae.spec.forms import key as _key
from stelae.spec.forms import listed as _list
from stelae.spec.forms import mapped as _map
from stelae.spec.forms import number as _number
from stelae.spec.forms import ref as _ref
from stelae.spec.forms import table as _table
from stelae.spec.forms import text as _text

_NAME = "a name of at most 31 characters: a to z, 0 to 9 and -, a letter first"
_PROCESS_NAME = "a name of at most 20 characters: a to z, 0 to 9 and -, a letter first"
_SEGMENT = r"[A-Za-z0-9._@+-]+"
_NO_DOTS = r"(?!\.\.?(/|$))"
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"


_WORDS: Schema = {
    "name": _text(_NAME, r"^[a-z][a-z0-9-]{0,30}$"),
    "process_name": _text(_PROCESS_NAME, r"^[a-z][a-z0-9-]{0,19}$"),
    "duration": _text(units.DURATION_FORM, units.DURATION_PATTERN),
    "positive_duration": _text(units.POSITIVE_DURATION_FORM, units.POSITIVE_DURATION_PATTERN),
    "size": _text(units.SIZE_FORM, units.SIZE_PATTERN),
    "percent": _text(units.PERCENT_FORM, units.PERCENT_PATTERN),
    "cores": {
        "title": units.CORES_FORM,
        "type": ["number", "string"],
        "pattern": units.CORES_PATTERN,
        "exclusiveMinimum": 0,
        "maximum": units.MAX_CORES,
    },
    "base": _text(
        '"debian:SUITE", "oci:/PATH", "oci:NAME@sha256:DIGEST" (a tag alone may move) or "scratch"',
        r"^(debian:[a-z][a-z0-9-]{1,30}|oci:/.+|oci:[A-Za-z0-9][A-Za-z0-9._:/-]{0,254}@sha256:[0-9a-f]{64}|scratch)$",
    ),
    "package": _text("the name of a Debian package", r"^[a-z0-9][a-z0-9+.-]{1,127}$"),
    "relative_path": _text(
        'a path inside the repository, without ".." and without spaces',
        rf"^{_NO_DOTS}{_SEGMENT}(/{_NO_DOTS}{_SEGMENT})*$",
    ),
    "absolute_path": _text(
        'an absolute path below /, without ".." and without spaces',
        rf"^(/{_NO_DOTS}{_SEGMENT})+$",
    ),
    "glob": _text(
        'a glob pattern of paths inside the repository, without ".."',
        r"^(?!(.*/)?\.\.(/|$)).*[^\s/]",
    ),
    "secret": _text(
        "the name of a secret, of a to z, 0 to 9, dot, - and _, such as npmrc", r"^[a-z0-9][a-z0-9._-]{0,63}$"
    ),
    "line": _text("a command line that is not empty", r"\S"),
    "argument": {"title": "a string", "type": "string"},
    "user": _text(
        "the name of a user, of a to z, 0 to 9, - and _, and not root", r"^(?!root$)[a-z_][a-z0-9_-]{0,30}$"
    ),
    "url_path": _text("a path that begins with / and has no spaces", r"^/[!-~]*$"),
    "setting_name": _text(
        "a name of A to Z, 0 to 9 and _, and neither PORT nor STELAE_*, which Stelae sets itself",
        r"^(?!PORT$|STELAE_)[A-Z_][A-Z0-9_]*$",
    ),
    "setting": {"title": "a string of at most 65536 characters, in quotes", "type": "string", "maxLength": 65536},
    "host": _text(
        "a host name in lower case, such as shop.example.com",
        rf"^(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*$",
    ),
    "port": _number(1, 65535, "a port"),
    "pids": _number(1, 4_194_304),
    "when": jobs.WHEN,
    "moves": {"title": '"with-traffic" or "after-traffic"', "enum": ["with-traffic", "after-traffic"]},
    "requirement": {"title": '"signature", "provenance" or "sbom"', "enum": ["signature", "provenance", "sbom"]},
}

_APP = _table(
    "a table",
    {"name": _key("name", "The app's name, unique on a machine.")},
    required=["name"],
    description="What the app is called.",
)

_COPY = _table(
    "a table with from and path",
    {
        "from": _key("name", "The stage to copy from."),
        "path": _key("absolute_path", "The file or folder of the stage."),
        "to": _key("absolute_path", "Where it is put; without it, at the same path."),
    },
    required=["from", "path"],
    description="A file or a folder of a stage, with its modes; it belongs to root.",
)

_STEPS: Schema = {
    "base": _key("base", "What it starts from. A PATH is of an OCI layout or archive on the controller's machine."),
    "packages": _list("a list of package names", _ref("package"), description="Debian packages to install."),
    "python": _key(
        "relative_path", "What pins Python's dependencies: requirements with hashes, uv.lock, pylock.toml."
    ),
    "node": _key("relative_path", "What pins Node's dependencies: a package-lock.json."),
    "files": _list(
        "a list of patterns", _ref("glob"), description="Files of the commit that go in; without it all of them do."
    ),
    "exclude": _list("a list of patterns", _ref("glob"), description="Files that stay out."),
    "copy": _list(
        "a list of at most 100 tables with from and path",
        _ref("copy"),
        maxItems=100,
        description="What is taken from stages that stand above in the file; it lies over the commit's own files.",
    ),
    "run": _list(
        "a list of command lines",
        _ref("line"),
        description="Shell lines, run in the working directory, in a sandbox without a network.",
    ),
    "workdir": _key("absolute_path", "Where the files are, and where processes start.", default="/app"),
    "secrets": _list(
        "a list of names",
        _ref("secret"),
        description="Files that its lines may read at /run/secrets/NAME; their content is given with each build.",
    ),
}

_STAGE = _table(
    "a table",
    _STEPS,
    required=["base"],
    description="A root file system to copy from. Nothing else of it is in the image.",
)

_LIMITS = _table(
    "a table of time, memory and disk",
    {
        "time": _key("positive_duration", "How long a line of run may take.", default="15m"),
        "memory": _key("size", "The most memory that the processes of a line may use together.", default="2GiB"),
        "disk": _key("size", "The most that the lines may write and keep.", default="10GiB"),
    },
    description="What a line of run may take, in the image and in its stages.",
)

_IMAGE = _table(
    "a table",
    {
        **_STEPS,
        "dockerfile": _key(
            "relative_path", "A Dockerfile that makes the image, by buildah, instead of a base and the other keys."
        ),
        "dockerfile_network": {
            **YES,
            "description": "Whether RUN lines of the Dockerfile have a network; then what they give is not certain.",
            "default": False,
        },
        "user": _key("user", "The user that processes run as; with a dockerfile that of its USER.", default="app"),
        "limits": _LIMITS,
        "stage": _map("at most 20 tables [image.stage.NAME]", "name", "stage", maxProperties=20),
    },
    description="How the source becomes an image.",
)

_DISK = _table(
    "a table with base",
    {
        "base": _text('"debian:SUITE", such as "debian:bookworm"', r"^debian:[a-z][a-z0-9-]{1,30}$")
        | {"description": "Where the kernel and the programs that start it come from; stelae lock pins them."}
    },
    required=["base"],
    description="That the image is made into disks too, which machines boot. No input of the image.",
)

_HEALTH = _table(
    "a table",
    {
        "path": _key("url_path", "Ready when GET of it answers 2xx or 3xx; without it, when the port accepts."),
        "interval": _key("positive_duration", "Time between two probes.", default="1s"),
        "timeout": _key("positive_duration", "How long a probe may take.", default="2s"),
        "start": _key("positive_duration", "How long an instance may take to be ready first.", default="30s"),
    },
    description="How an instance shows that it is ready.",
)

_PROCESS = _table(
    "a table",
    {
        "command": _list(
            "a list of at least one string, the program first",
            _ref("argument"),
            minItems=1,
            description="The program and its arguments; no shell. With a dockerfile that of its ENTRYPOINT and CMD.",
        ),
        "port": _key("port", "Where it accepts connections; also in the environment variable PORT."),
        "health": _HEALTH,
        "drain": _key("duration", "How long open connections may go on after the traffic has moved.", default="30s"),
        "stop": _key("duration", "How long it may take to end after SIGTERM, before SIGKILL.", default="10s"),
        "memory": _key("size", "The most memory an instance may use, its tmpfs included.", default="256MiB"),
        "cpu": _key("cores", "The most cores an instance may use; without it there is no limit."),
        "pids": _key("pids", "The most processes and threads an instance may have.", default=256),
        "tmpfs": _map(
            "a table of at most 16 paths and their sizes",
            "absolute_path",
            "size",
            maxProperties=16,
            description="Writable memory file systems. Everything else is read-only.",
        ),
        "moves": _key("moves", "When a process without a port changes to a new release.", default="after-traffic"),
    },
    description="One kind of thing that the image runs.",
)

_ENVIRONMENT = _table(
    "a table",
    {
        "processes": _map(
            "a table of 1 to 50 processes and their numbers of instances",
            "process_name",
            "count",
            minProperties=1,
            maxProperties=50,
            description="How many instances of each process, or between which numbers.",
        ),
        "settings": _map(
            "a table of strings", "setting_name", "setting", description="Environment variables of every instance."
        ),
        "hosts": _list(
            "a list of host names",
            _ref("host"),
            description="The host names whose requests go here; without any, APP.ENVIRONMENT.localhost.",
        ),
        "strategy": strategy_form.STRATEGY,
        "bake": _key("duration", "How long the replaced release stays warm after a rollout.", default="0s"),
        "promote_from": _key("name", "Admits only images that were verified in that environment."),
        "require": _list(
            "a list of what must be proven",
            _ref("requirement"),
            description="What an image needs, signed by a key that counts here, before it may come in.",
        ),
        **promotion.KEYS,
        **drift.KEYS,
        **secrets.KEYS,
        **platform.KEYS,
    },
    required=["processes"],
    description="Where releases of the app run, and how they get there. Never part of the image.",
)

SCHEMA: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "urn:stelae:stelae.toml",
    **_table(
        "stelae.toml",
        {
            "app": _APP,
            "image": _IMAGE,
            "disk": _DISK,
            "process": _map(
                "1 to 50 tables [process.NAME]", "process_name", "process", minProperties=1, maxProperties=50
            ),
            "job": _map("at most 50 tables [job.NAME]", "process_name", "job", maxProperties=50),
            "env": _map("at most 50 tables [env.NAME]", "name", "environment", maxProperties=50),
        },
        required=["app", "image", "process"],
    ),
    "$defs": {
        **_WORDS,
        **promotion.WORDS,
        **drift.WORDS,
        **strategy_form.WORDS,
        **secrets.WORDS,
        **scaling.WORDS,
        **platform.WORDS,
        "copy": _COPY,
        "stage": _STAGE,
        "process": _PROCESS,
        "job": jobs.JOB,
        "environment": _ENVIRONMENT,
    },
}


def published() -> str:
    """Return the text of ``stelae.schema.json``."""
    return json.dumps(SCHEMA, indent=2) + "\n"
