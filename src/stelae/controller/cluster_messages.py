"""The messages of what goes to a cluster as text."""

from __future__ import annotations

from typing import Annotated, Literal

from stelae.controller.messages import (
    EnvironmentRef,
    Message,
    OptionalCommit,
    OptionalImage,
    OptionalRelease,
    Path,
    form,
)

ClusterUser = Annotated[str, form("the name of a user of the cluster", r"[!-~]*", longest=253)]


class RenderQuery(Message, frozen=True):
    """The query of GET /v1/render: the stable release, where no other one, no image and no commit is named."""

    environment: EnvironmentRef
    image: OptionalImage = ""
    release: OptionalRelease = ""
    commit: OptionalCommit = ""
    path: Path = ""


class ClusterSetupQuery(Message, frozen=True):
    """The query of GET /v1/cluster-setup; ``user`` is for ``rbac``."""

    environment: EnvironmentRef
    what: Literal["policy", "rbac"]
    user: ClusterUser = ""
