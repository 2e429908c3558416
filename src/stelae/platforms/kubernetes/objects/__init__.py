"""The objects of Kubernetes that hold an environment, each made of the record alone: no cluster is asked."""

from stelae.platforms.kubernetes.objects.access import access
from stelae.platforms.kubernetes.objects.place import Object, Placed, image_reference
from stelae.platforms.kubernetes.objects.pod import CONTAINER
from stelae.platforms.kubernetes.objects.policy import images, images_manager, policy
from stelae.platforms.kubernetes.objects.runs import debug_pod, job
from stelae.platforms.kubernetes.objects.sets import budget, deployment, objects_of, secret, settings
from stelae.platforms.kubernetes.objects.traffic import SERVICE_PORT, release_service, routes, service

__all__ = [
    "CONTAINER",
    "SERVICE_PORT",
    "Object",
    "Placed",
    "access",
    "budget",
    "debug_pod",
    "deployment",
    "image_reference",
    "images",
    "images_manager",
    "job",
    "objects_of",
    "policy",
    "release_service",
    "routes",
    "secret",
    "service",
    "settings",
]
