"""Events: what the ledger holds. Each is a fact with a time and an actor; states are folds over them.

The wire form of an event is canonical JSON of an envelope (see ``stelae.ledger.codec``); ``KINDS`` maps the
``kind`` there to the class here. A kind is never renamed or given another meaning; a new fact gets a new kind.
One module a topic; who uses events imports this package.
"""

from stelae.domain.event.base import KINDS, Event, Recorded
from stelae.domain.event.checks import CheckMeasured
from stelae.domain.event.drift import DriftEnded, DriftFound, DriftStorm, ReplacementRequested
from stelae.domain.event.environments import (
    EnvironmentApplied,
    EnvironmentStarted,
    EnvironmentStopped,
    RequestRefused,
    Scaled,
)
from stelae.domain.event.images import (
    BuildFailed,
    DiskBuilt,
    DiskImported,
    ImageAttested,
    ImageBuilt,
    ImageImported,
    ImagePushed,
)  # fmt: skip
from stelae.domain.event.installation import (
    ClockDiffers,
    ControllerStarted,
    KeyTrusted,
    Revoked,
    StorageCleaned,
    StorageCleaning,
)
from stelae.domain.event.instances import (
    ActionDone,
    ActionIntended,
    InstanceEnding,
    InstanceExited,
    InstanceGone,
    InstanceLost,
    InstanceReady,
    InstanceSeen,
    InstanceUnready,
)
from stelae.domain.event.jobs import RunEnded, RunEnding, RunRequested
from stelae.domain.event.promotion import (
    DeploymentApproved,
    FreezeKnown,
    FreezePassed,
    ImageVerified,
    NotificationFailed,
    VerificationAccepted,
    VerificationSigned,
    VerifierTrusted,
)
from stelae.domain.event.recovery import InstallationRestored
from stelae.domain.event.rollouts import (
    AllocationSet,
    DeploymentRequested,
    GateOpened,
    PersonAwaited,
    PlatformBack,
    PlatformLost,
    RolloutAdvanced,
    RolloutEnded,
    RolloutHurried,
    RolloutPaused,
    RolloutPhase,
    RolloutResumed,
    RolloutReverting,
    StepHeld,
    WarmEnded,
)
from stelae.domain.event.secrets import SecretRevoked, SecretSet, SecretWiped
from stelae.domain.event.watched import EnvironmentWatched
from stelae.domain.event.witnesses import WitnessPolicySet, WitnessRefused

__all__ = [
    "KINDS",
    "ActionDone",
    "ActionIntended",
    "AllocationSet",
    "BuildFailed",
    "CheckMeasured",
    "ClockDiffers",
    "ControllerStarted",
    "DeploymentApproved",
    "DeploymentRequested",
    "DiskBuilt",
    "DiskImported",
    "DriftEnded",
    "DriftFound",
    "DriftStorm",
    "EnvironmentApplied",
    "EnvironmentStarted",
    "EnvironmentStopped",
    "EnvironmentWatched",
    "Event",
    "FreezeKnown",
    "FreezePassed",
    "GateOpened",
    "ImageAttested",
    "ImageBuilt",
    "ImageImported",
    "ImagePushed",
    "ImageVerified",
    "InstallationRestored",
    "InstanceEnding",
    "InstanceExited",
    "InstanceGone",
    "InstanceLost",
    "InstanceReady",
    "InstanceSeen",
    "InstanceUnready",
    "KeyTrusted",
    "NotificationFailed",
    "PersonAwaited",
    "PlatformBack",
    "PlatformLost",
    "Recorded",
    "ReplacementRequested",
    "RequestRefused",
    "Revoked",
    "RolloutAdvanced",
    "RolloutEnded",
    "RolloutHurried",
    "RolloutPaused",
    "RolloutPhase",
    "RolloutResumed",
    "RolloutReverting",
    "RunEnded",
    "RunEnding",
    "RunRequested",
    "Scaled",
    "SecretRevoked",
    "SecretSet",
    "SecretWiped",
    "StepHeld",
    "StorageCleaned",
    "StorageCleaning",
    "VerificationAccepted",
    "VerificationSigned",
    "VerifierTrusted",
    "WarmEnded",
    "WitnessPolicySet",
    "WitnessRefused",
]
