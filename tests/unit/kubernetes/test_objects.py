from __future__ import annotations

from base64 import b64decode
from dataclasses import replace
from typing import Any

import pytest
import yaml
from lightkube.codecs import load_all_yaml

from stelae.domain.digest import digest_of
from stelae.domain.environment import EnvironmentId
from stelae.domain.errors import Failed
from stelae.domain.process import Health, Probe, Tmpfs
from stelae.domain.run import Window
from stelae.domain.units import MIB
from stelae.platforms.kubernetes import names, objects
from tests.unit.kubernetes.things import ENVIRONMENT, PLAIN, RELEASE, WEB, WORKER, a_run, placed

VALUES = {"token.json": b"\xff\x00", "API_KEY": b"k"}


def container_of(found: dict[str, Any]) -> dict[str, Any]:
    spec = found["spec"] if found["kind"] == "Pod" else found["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert isinstance(container, dict)
    return container


def test_a_deployment_is_exactly_this() -> None:
    labels = names.labels("stelae", ENVIRONMENT, RELEASE.id, "web")
    secret = names.secret_name(RELEASE)
    found = objects.deployment(placed(config={"config": {"User": "1000:1001"}}), RELEASE, WEB, 3)
    env = found["spec"]["template"]["spec"]["containers"][0].pop("env")
    assert found == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": names.set_name(ENVIRONMENT, RELEASE.id, "web"), "namespace": "shop", "labels": labels},
        "spec": {
            "replicas": 3,
            "revisionHistoryLimit": 0,
            "selector": {"matchLabels": {key: text for key, text in labels.items() if key.startswith("stelae.dev/")}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "restartPolicy": "Always",
                    "terminationGracePeriodSeconds": 15 + 10 + 2,
                    "securityContext": {
                        "fsGroup": 1001,
                        "runAsGroup": 1001,
                        "runAsNonRoot": True,
                        "runAsUser": 1000,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "containers": [
                        {
                            "name": "app",
                            "image": f"registry.example.com/ours/guestbook@{RELEASE.image}",
                            "imagePullPolicy": "IfNotPresent",
                            "command": ["serve", "--home", "$$(HOME)"],
                            "envFrom": [{"configMapRef": {"name": names.settings_name(RELEASE)}}],
                            "lifecycle": {"preStop": {"sleep": {"seconds": 15}}},
                            "ports": [{"name": "serve", "containerPort": 8000, "protocol": "TCP"}],
                            "readinessProbe": {
                                "httpGet": {"path": "/healthz", "port": "serve", "scheme": "HTTP"},
                                "periodSeconds": 1,
                                "timeoutSeconds": 2,
                                "failureThreshold": 3,
                                "successThreshold": 1,
                            },
                            "resources": {
                                "limits": {"memory": str(64 * MIB), "cpu": "500m"},
                                "requests": {"memory": str(64 * MIB), "cpu": "500m"},
                            },
                            "securityContext": {
                                "allowPrivilegeEscalation": False,
                                "capabilities": {"drop": ["ALL"]},
                                "privileged": False,
                                "readOnlyRootFilesystem": True,
                            },
                            "terminationMessagePolicy": "FallbackToLogsOnError",
                            "volumeMounts": [
                                {"name": "memory-0", "mountPath": "/tmp"},
                                {"name": "secrets", "mountPath": "/run/secrets", "readOnly": True},
                            ],
                        }
                    ],
                    "volumes": [
                        {"name": "memory-0", "emptyDir": {"medium": "Memory", "sizeLimit": str(MIB)}},
                        {"name": "secrets", "secret": {"secretName": secret, "defaultMode": 0o440}},
                    ],
                },
            },
        },
    }
    assert {entry.pop("name"): entry for entry in env} == {
        "API_KEY": {"valueFrom": {"secretKeyRef": {"name": secret, "key": "API_KEY"}}},
        "PORT": {"value": "8000"},
        "STELAE_APP": {"value": "guestbook"},
        "STELAE_ENVIRONMENT": {"value": "production"},
        "STELAE_IMAGE": {"value": RELEASE.image},
        "STELAE_INSTANCE": {"valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
        "STELAE_PROCESS": {"value": "web"},
        "STELAE_RELEASE": {"value": RELEASE.id},
    }


def test_a_process_without_a_port_is_not_drained_and_not_asked() -> None:
    found = objects.deployment(placed(PLAIN), PLAIN, WORKER, 1)
    container = container_of(found)
    assert not {"ports", "lifecycle", "readinessProbe", "envFrom", "volumeMounts"} & set(container)
    spec = found["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] == 12
    assert "volumes" not in spec
    assert container["resources"]["requests"]["cpu"] == "10m"
    assert "cpu" not in container["resources"]["limits"]


def test_the_question_whether_it_is_ready_follows_its_process() -> None:
    asked = replace(WEB, health=Health(probe=Probe.TCP), drain=0)
    container = container_of(objects.deployment(placed(), RELEASE, asked, 1))
    assert container["readinessProbe"]["tcpSocket"] == {"port": "serve"}
    assert container["lifecycle"]["preStop"]["sleep"]["seconds"] == 2  # until no proxy leads to it any more
    running = replace(WEB, health=Health(probe=Probe.RUNNING))
    assert "readinessProbe" not in container_of(objects.deployment(placed(), RELEASE, running, 1))


@pytest.mark.parametrize("user", ["0", "0:0", "0:1000"])
def test_an_image_that_runs_as_root_is_refused(user: str) -> None:
    with pytest.raises(Failed, match="runs as root"):
        objects.deployment(placed(config={"config": {"User": user}}), RELEASE, WEB, 1)


def test_an_image_that_names_no_user_runs_as_one_and_one_by_name_is_refused() -> None:
    spec = objects.deployment(placed(), RELEASE, WEB, 1)["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsUser"] == 10001
    with pytest.raises(Failed, match="not a number"):
        objects.deployment(placed(config={"config": {"User": "www-data"}}), RELEASE, WEB, 1)


@pytest.mark.parametrize("path", ["/run/secrets", "/run/secrets/more"])
def test_no_memory_file_system_covers_secrets(path: str) -> None:
    process = replace(WEB, tmpfs=(Tmpfs(path=path, size=MIB),))
    with pytest.raises(Failed, match="where its secrets should be"):
        objects.deployment(placed(), RELEASE, process, 1)
    assert objects.deployment(placed(PLAIN), PLAIN, process, 1)


def test_only_the_count_differs_between_two_of_a_set() -> None:
    one, two = (objects.deployment(placed(), RELEASE, WEB, count) for count in (1, 2))
    assert one.pop("spec") | {"replicas": 2} == two.pop("spec")
    assert one == two


def test_what_a_release_names_is_immutable_and_has_its_values_as_they_are() -> None:
    settings = objects.settings(placed(), RELEASE)
    secret = objects.secret(placed(), RELEASE, VALUES | {"another": b"x"})
    assert settings is not None
    assert secret is not None
    assert settings["immutable"] is secret["immutable"] is True
    assert settings["data"] == {"GREETING": "a $(B) $$"}  # no variable is put into what comes of a ConfigMap
    assert {name: b64decode(text) for name, text in secret["data"].items()} == VALUES
    assert names.RELEASE not in settings["metadata"]["labels"]  # another release may share it
    assert objects.settings(placed(PLAIN), PLAIN) is None
    assert objects.secret(placed(PLAIN), PLAIN, {}) is None


def test_a_set_is_applied_with_what_it_names_before_it() -> None:
    kinds = [found["kind"] for found in objects.objects_of(placed(), RELEASE, WEB, 1)]
    assert kinds == ["ConfigMap", "PodDisruptionBudget", "Deployment"]
    assert [found["kind"] for found in objects.objects_of(placed(PLAIN), PLAIN, WEB, 1)] == kinds[1:]


def test_one_instance_of_a_process_is_disturbed_at_a_time_whichever_release_it_is_of() -> None:
    spec = objects.budget(placed(), "web")["spec"]
    assert spec["maxUnavailable"] == 1
    assert spec["selector"]["matchLabels"] == names.identity("stelae", ENVIRONMENT, "", "web")


def test_a_run_has_one_pod_for_ever_and_no_service_leads_to_it() -> None:
    job = objects.job(placed(), RELEASE, a_run())
    assert job["spec"]["backoffLimit"] == 0
    pod = job["spec"]["template"]
    assert pod["spec"]["restartPolicy"] == "Never"
    assert pod["spec"]["activeDeadlineSeconds"] == 90 + 10 + 60
    assert pod["metadata"]["labels"][names.RUN] == "migrate-c04xvt-1"
    assert names.PROCESS not in pod["metadata"]["labels"]
    container = container_of(job)
    assert container["command"] == ["migrate"]
    assert not {"ports", "readinessProbe", "lifecycle"} & set(container)
    service = objects.service(placed(), "web", [])
    assert set(service["spec"]["selector"]) - set(pod["metadata"]["labels"]) == {names.PROCESS}


def test_a_run_of_something_that_is_not_there_is_refused() -> None:
    with pytest.raises(Failed, match="has no migrate to run"):
        objects.job(placed(), replace(RELEASE, jobs=()), a_run())


def test_a_debug_session_is_a_copy_with_a_terminal() -> None:
    pod = objects.debug_pod(placed(), RELEASE, a_run(debug=True, window=Window(rows=24, columns=80, term="vt220")))
    container = container_of(pod)
    assert container["command"] == ["sh"]
    assert container["tty"] is container["stdin"] is True
    assert "stdinOnce" not in container, "nobody could attach to it again"
    assert {"name": "TERM", "value": "vt220"} in container["env"]
    assert container["resources"]["limits"]["memory"] == str(WEB.memory)
    assert not {"ports", "terminationMessagePolicy"} & set(container)
    piped = container_of(objects.debug_pod(placed(), RELEASE, a_run(debug=True)))
    assert "tty" not in piped
    assert piped["stdinOnce"] is True, "its program is not told that nothing more is typed"


def test_the_list_of_images_is_of_the_whole_namespace() -> None:
    found = objects.images(placed(), [RELEASE.image, digest_of(b"b"), RELEASE.image])
    listed = found["metadata"]["annotations"]
    assert {f"sha256:{key.partition('/')[2]}{rest}" for key, rest in listed.items()} == {
        RELEASE.image,
        digest_of(b"b"),
    }
    assert all(len(key.partition("/")[2]) <= 63 for key in listed)
    assert (found["kind"], found["metadata"]["name"]) == ("Namespace", "shop")
    assert "labels" not in found["metadata"]
    other = replace(placed(), environment=EnvironmentId("guestbook/testing"))
    theirs = replace(placed(), installation="another")
    assert len({objects.images_manager(place) for place in (placed(), other, theirs)}) == 3


def everything() -> list[dict[str, Any]]:
    place = placed()
    found = [
        *objects.objects_of(place, RELEASE, WEB, 2), *objects.objects_of(place, RELEASE, WORKER, 1),
        objects.secret(place, RELEASE, VALUES), objects.service(place, "web", []),
        objects.release_service(place, RELEASE.id, "web"), objects.job(place, RELEASE, a_run()),
        objects.debug_pod(place, RELEASE, a_run(debug=True)), objects.images(place, [RELEASE.image]),
        *objects.policy("stelae", "shop"), *objects.access("shop", gateway=True),
        *objects.access("shop", gateway=False, user="ada"),
    ]  # fmt: skip
    return [one for one in found if one is not None]


def test_every_field_is_one_that_kubernetes_has() -> None:
    """The models are made of Kubernetes' own description of its API: what they do not know they leave out."""
    for found in everything():
        (model,) = load_all_yaml(yaml.safe_dump(found))
        assert model.to_dict() == found
