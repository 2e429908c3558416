"""The objects of runs: a Job for a job or a command, and a Pod for a debug session. Both are started once."""

from __future__ import annotations

from stelae.core import jobs
from stelae.domain.errors import Failed
from stelae.domain.process import Process
from stelae.domain.release import Release
from stelae.domain.run import Run
from stelae.domain.units import MINUTE
from stelae.platforms.kubernetes import names
from stelae.platforms.kubernetes.objects.place import Object, Placed, made
from stelae.platforms.kubernetes.objects.pod import pod_spec, seconds

_LONGEST = 2**31 - 1  # seconds

_LATER = MINUTE  # Stelae ends a run that takes too long; the cluster does where no controller runs


def job(place: Placed, release: Release, run: Run) -> Object:
    """Return the Job of *run*: one pod, which is never replaced, whatever becomes of it. Raises Failed when the
    release has nothing of that name, and what ``pod_spec`` raises."""
    own = names.run_labels(place.installation, place.environment, release.id, run.id)
    spec: Object = {
        "backoffLimit": 0,
        "completionMode": "NonIndexed",
        "completions": 1,
        "parallelism": 1,
        "podReplacementPolicy": "Failed",
        "template": {"metadata": {"labels": own}, "spec": _spec(place, release, run)},
    }
    return made(place, "batch/v1", "Job", names.run_name(place.environment, run.id), own) | {"spec": spec}


def debug_pod(place: Placed, release: Release, run: Run) -> Object:
    """Return the Pod of a debug session: a copy of an instance that no Service leads to. Raises as ``job`` does."""
    own = names.run_labels(place.installation, place.environment, release.id, run.id)
    spec = _spec(place, release, run)
    container: Object = spec["containers"][0]
    del container["terminationMessagePolicy"]  # what is shown to its person is kept nowhere
    container["stdin"] = True
    if run.debug is not None and run.debug.window is not None:  # it goes on while nobody is attached
        container["tty"] = True
        container["env"] = [*container["env"], {"name": "TERM", "value": run.debug.window.term}]
    else:
        container["stdinOnce"] = True  # the end of what is typed is told to its program
    return made(place, "v1", "Pod", names.run_name(place.environment, run.id), own) | {"spec": spec}


def _spec(place: Placed, release: Release, run: Run) -> Object:
    process: Process | None = jobs.process_of(release, run)
    if process is None:
        raise Failed(f"release {release.id} has no {run.label} to run")
    limit = min(_LONGEST, seconds(run.timeout + process.stop + _LATER))
    return pod_spec(place, release, process, once=True) | {"activeDeadlineSeconds": limit}
