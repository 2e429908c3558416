"""What the objects of a cluster are called, and the labels by which they are found again.

A name tells a person what it is, and is never that of anything else: two words that are joined by ``-`` may look like
two others, so that some names have a digest at their end. Kubernetes allows 63 characters of a-z, 0-9 and ``-``
(RFC 1035) in the names used here, and 63 in the value of a label.
"""

from __future__ import annotations

from collections.abc import Mapping

from stelae.domain.canonical import canonical
from stelae.domain.digest import digest_of, spoken
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import InvalidInput
from stelae.domain.release import Release, ReleaseId, short_release

MANAGER = "stelae"
"""The one field manager by which everything is applied."""

DOMAIN = "stelae.dev"
INSTALLATION = f"{DOMAIN}/installation"
APP = f"{DOMAIN}/app"
ENVIRONMENT = f"{DOMAIN}/environment"
PROCESS = f"{DOMAIN}/process"
RELEASE = f"{DOMAIN}/release"
RUN = f"{DOMAIN}/run"
"""The label of a run's objects; they have no ``PROCESS``, so that no Service leads to them."""

_MOST = 63
_MOST_OF_SET = 46
"""So that ``SET-HASH-LOTS`` (10 and 5 characters), the name of its pod, is at most 63 and nothing is cut off it."""
_MOST_OF_RUN = 57  # a Job's pods have 6 characters more
_SET = 10  # characters of a release's id: 50 bits
_END = 8


def labels(
    installation: str, environment: EnvironmentId, release: ReleaseId | str = "", process: str = ""
) -> dict[str, str]:
    """Return the labels of what belongs to *environment*, to a *release* and to a *process* of it where they are
    given: Kubernetes' recommended ones, and those that objects are found by. Raises InvalidInput for a name that
    cannot be the value of a label."""
    app, name = _words(environment)
    found = {
        "app.kubernetes.io/name": app,
        "app.kubernetes.io/instance": f"{app}-{name}"[:_MOST].rstrip("-"),
        "app.kubernetes.io/managed-by": MANAGER,
    }
    if process:
        found["app.kubernetes.io/component"] = process
    if release:
        found["app.kubernetes.io/version"] = short_release(ReleaseId(release))
    return found | identity(installation, environment, release, process)


def identity(
    installation: str, environment: EnvironmentId, release: ReleaseId | str = "", process: str = ""
) -> dict[str, str]:
    """Return those of ``labels`` that say whose an object is: what a selector of pods is made of."""
    app, name = _words(environment)
    found = {INSTALLATION: installation, APP: app, ENVIRONMENT: name, PROCESS: process, RELEASE: release}
    for text in found.values():
        if text.endswith("-"):
            raise InvalidInput(f"a label of Kubernetes cannot end in a hyphen: {text}", hint="take another name")
    return {key: text for key, text in found.items() if text}


def run_labels(installation: str, environment: EnvironmentId, release: ReleaseId, run: str) -> dict[str, str]:
    """Return the labels of a run's objects."""
    return labels(installation, environment, release) | {RUN: run}


def selector(installation: str) -> str:
    """Return the label selector of everything that *installation* made."""
    return f"{INSTALLATION}={installation}"


def selecting(found: Mapping[str, str]) -> str:
    """Return *found* as a label selector, as text."""
    return ",".join(f"{key}={value}" for key, value in sorted(found.items()))


def set_name(environment: EnvironmentId, release: ReleaseId, process: str) -> str:
    """Return the name of the Deployment of *process* of *release*, and of the Service that leads to it alone."""
    app, name = _words(environment)
    room = _MOST_OF_SET - _SET - len(process) - 2
    return f"{_cut(f'{app}-{name}', room)}-{process}-{_after_r(release)}"


def service_name(environment: EnvironmentId, process: str, release: ReleaseId | str = "") -> str:
    """Return the name of the Service of *process*: the environment's, or that of one *release*."""
    return set_name(environment, ReleaseId(release), process) if release else _joined(_MOST, environment, process)


def budget_name(environment: EnvironmentId, process: str) -> str:
    """Return the name of the PodDisruptionBudget of *process*."""
    return _joined(_MOST, environment, process)


def route_name(environment: EnvironmentId, host: str = "") -> str:
    """Return the name of the environment's HTTPRoute, or of the one for a *host* that leads to one release."""
    return _joined(_MOST, environment, f"host-{_end('host', host)}" if host else "all")


def run_name(environment: EnvironmentId, run: str) -> str:
    """Return the name of the Job, or of the Pod, of a run of that id."""
    return _joined(_MOST_OF_RUN, environment, run)


def settings_name(release: Release) -> str:
    """Return the name of the ConfigMap with the settings of *release*: that of the same settings is the same."""
    return _by_content(release, "settings", dict(release.settings))


def secret_name(release: Release) -> str:
    """Return the name of the Secret of *release*. It follows from names and versions, and from no value."""
    return _by_content(release, "secrets", dict(release.secrets))


def images_policy_name(namespace: str) -> str:
    """Return the name of the policy that lets only recorded images into *namespace*."""
    return f"stelae-images.{namespace}"


def labels_policy_name(namespace: str) -> str:
    """Return the name of the policy that guards the labels of *namespace*."""
    return f"stelae-labels.{namespace}"


def _words(environment: EnvironmentId) -> tuple[str, str]:
    app, _, name = environment.partition("/")
    return app, name


def _after_r(release: ReleaseId) -> str:
    return release.removeprefix("r-")[:_SET]


def _cut(text: str, most: int) -> str:
    return text[:most].rstrip("-")


def _end(*content: object) -> str:
    return spoken(digest_of(canonical(list(content))))[:_END]


def _by_content(release: Release, kind: str, content: Mapping[str, object]) -> str:
    end = spoken(digest_of(canonical([release.app, release.environment, kind, content])))[:_SET]
    return f"{_cut(f'{release.app}-{release.environment}', _MOST - len(kind) - _SET - 2)}-{kind}-{end}"


def _joined(most: int, environment: EnvironmentId, last: str) -> str:
    """Return app, environment and *last* as one name of at most *most* characters.

    It is joined by ``-`` where neither of the first two has one, else by ``--`` where no word has that: so each name
    can be taken apart in one way only. All others end in a digest of the words.
    """
    app, name = _words(environment)
    plain = "--" not in last and not last.endswith("-")
    if plain and "-" not in app + name:
        found = f"{app}-{name}-{last}"
    elif plain and not any("--" in word or word.endswith("-") for word in (app, name)):
        found = f"{app}--{name}--{last}"
    else:
        found = ""
    if found and len(found) <= most:
        return found
    end = _end(app, name, last)
    tail = f"{_cut(last, most - _END - 3)}-{end}"
    head = _cut(f"{app}-{name}", most - len(tail) - 1)
    return f"{head}-{tail}" if head else tail
