"""Manifests: valid for Kubernetes and the makers of each kind, true to the server's settings, Guaranteed."""

from __future__ import annotations

import copy
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import ValidationError  # type: ignore[import-untyped]

from cpuserve.settings import SETTINGS, Settings
from tests.conftest import ROOT
from tests.deploy import programs
from tests.deploy.manifests import DEPLOY, Manifest, check, of_kind, pods, read, read_text
from tests.deploy.pod_class import exclusive_cpus, quantity, service_class

OVERLAYS = ("numa-node", "whole-node")
OPTIONS = {  # values of the chart, and what they are for
    "numa-node": (),
    "whole-node": ("layout=whole-node", "cpu=30", "memory=48Gi"),
    "everything": (
        *(
            "autoscaling.enabled=true",
            "podMonitor.enabled=true",
            "models.claim=models",
            "tuning.claim=tuning",
        ),
        *("cache.claim=cache", "balloon=cpuserve", "settings.max_batch=16", "settings.deadline_ms=1.5"),
        *(
            "settings.strict_readiness=true",
            "podAnnotations.a/b=c",
            "nodeSelector.cpu=big",
            "priorityClassName=x",
        ),
        *("tolerations[0].key=cpu", "imagePullSecrets[0].name=x", "service.type=LoadBalancer"),
    ),
    "image": ("models.image=registry/models:1", "grpcPort=0", "podDisruptionBudget.enabled=false"),
}
KSERVE_ROUTES = {"/v2/models/{{.Name}}/ready": "/v2/models/{model}/ready"}


def chart(*values: str) -> list[Manifest]:
    words = [word for value in values for word in ("--set", value)]
    done = programs.helm("template", "release", str(DEPLOY / "helm" / "cpuserve"), *words)
    assert done.returncode == 0, done.stderr
    return read_text(done.stdout)


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[Manifest]]:
    """What each overlay and each choice of the chart's values would apply."""
    overlays = DEPLOY / "kustomize" / "overlays"
    applied = {name: read_text(programs.kustomize(overlays / name)) for name in OVERLAYS}
    return {**applied, **{f"chart {name}": chart(*values) for name, values in OPTIONS.items()}}


@pytest.fixture(scope="module")
def components(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """The overlay numa-node with every component."""
    return with_components(tmp_path_factory.mktemp("components"))


def with_components(folder: Path) -> list[Manifest]:
    place = os.path.relpath((DEPLOY / "kustomize").resolve(), folder.resolve())  # as kustomize wants it
    listed = "".join(f"  - {place}/components/{name}\n" for name in ("keda", "podmonitor", "balloons"))
    (folder / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
        f"resources: [{place}/overlays/numa-node]\ncomponents:\n{listed}"
    )
    return read_text(programs.kustomize(folder))


def kserve_pod(*files: str) -> dict[str, Any]:
    """The pod that KServe makes in Standard mode of the runtime, the model, and initialisers in files."""
    (runtime,) = read("kserve/clusterservingruntime.yaml")
    (service,) = read("kserve/inferenceservice.yaml")
    predictor = service["spec"]["predictor"]
    container = copy.deepcopy(runtime["spec"]["containers"][0])
    container["resources"] = predictor["model"]["resources"]
    initialisers = [one["spec"]["container"] for file in files for one in read(file)]
    return {"containers": [container], "initContainers": initialisers}


def test_every_manifest_is_as_its_kind_wants_it(rendered: dict[str, list[Manifest]]) -> None:
    for manifests in rendered.values():
        assert {"Deployment", "Service", "ServiceAccount"} <= {one["kind"] for one in manifests}
        for manifest in manifests:
            check(manifest)


def test_every_file_of_kserve_and_the_nodes_is_as_its_kind_wants_it(components: list[Manifest]) -> None:
    files = sorted(str(path.relative_to(DEPLOY)) for path in (DEPLOY / "kserve").glob("*.yaml"))
    assert len(files) == 4
    for file in (*files, "nodes/balloons.yaml"):
        for manifest in read(file):
            check(manifest)
    for manifest in components:
        check(manifest)
    assert {"ScaledObject", "PodMonitor"} <= {one["kind"] for one in components}


@pytest.mark.parametrize(
    ("file", "path", "value", "said"),
    [
        ("kustomize/base/poddisruptionbudget.yaml", ("spec", "maxUnavailible"), 1, "maxUnavailible"),
        ("kustomize/base/deployment.yaml", ("spec", "replicas"), "two", "two"),
        ("kserve/clusterservingruntime.yaml", ("spec", "containers", 0, "arg"), ["x"], "arg"),
        ("kserve/inferenceservice.yaml", ("spec", "predictor", "minReplicas"), "1", "'1'"),
        ("kserve/inferenceservice.yaml", ("spec", "predictor", "model", "storageUrl"), "x", "storageUrl"),
        ("kserve/storagecontainer.yaml", ("spec", "supportedUriFormats"), {}, "array"),
        ("kustomize/components/keda/scaledobject.yaml", ("spec", "maxReplicas"), 3, "maxReplicas"),
        ("kustomize/components/podmonitor/podmonitor.yaml", ("spec", "selector"), None, "None"),
        ("nodes/balloons.yaml", ("spec", "balloonTypes", 0, "minCPU"), 3, "minCPU"),
    ],
)
def test_a_slip_in_a_manifest_is_found(file: str, path: tuple[Any, ...], value: Any, said: str) -> None:
    manifest = read(file)[0]
    inner: Any = manifest
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(ValidationError, match=re.escape(said)):
        check(manifest)


def test_pods_are_guaranteed_and_get_cpus_of_their_own(rendered: dict[str, list[Manifest]]) -> None:
    for name, manifests in rendered.items():
        for pod in pods(manifests):
            assert service_class(pod) == "Guaranteed", name
            asked = quantity(pod["containers"][0]["resources"]["requests"]["cpu"])
            assert exclusive_cpus(pod) == {"cpuserve": int(asked)}, name


def test_a_pod_of_kserve_is_guaranteed_only_without_the_usual_initialiser() -> None:
    assert exclusive_cpus(kserve_pod()) == {"kserve-container": 8}
    assert exclusive_cpus(kserve_pod("kserve/storagecontainer.yaml")) == {"kserve-container": 8}
    usual = kserve_pod("kserve/storagecontainer.yaml")
    usual["initContainers"][0]["resources"] = {
        "requests": {"cpu": "100m", "memory": "100Mi"},
        "limits": {"cpu": "1", "memory": "1Gi"},
    }
    assert (service_class(usual), exclusive_cpus(usual)) == ("Burstable", {})
    modelcar = kserve_pod()
    car = {"requests": {"cpu": "10m", "memory": "15Mi"}, "limits": {"cpu": "10m", "memory": "15Mi"}}
    modelcar["containers"].append({"name": "modelcar", "resources": car})
    assert exclusive_cpus(modelcar) == {"kserve-container": 8}
    meshed = kserve_pod()
    meshed["containers"].append({"name": "proxy", "resources": {"requests": {"cpu": "100m"}}})
    assert service_class(meshed) == "Burstable"


@pytest.mark.parametrize(
    ("resources", "wanted", "cpus"),
    [
        ([{}], "BestEffort", {}),
        ([{"requests": {"cpu": "0"}}], "BestEffort", {}),
        ([{"limits": {"cpu": "2", "memory": "1Gi"}}], "Guaranteed", {"0": 2}),  # requests become the limits
        ([{"limits": {"cpu": "2000m", "memory": "1Gi"}}], "Guaranteed", {"0": 2}),
        ([{"limits": {"cpu": "1500m", "memory": "1Gi"}}], "Guaranteed", {}),
        ([{"limits": {"cpu": "2"}}], "Burstable", {}),
        ([{"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}}], "Burstable", {}),
        ([{"limits": {"cpu": "2", "memory": "1Gi"}}, {}], "Burstable", {}),
        # the sums agree, one container has no limit
        (
            [{"requests": {"cpu": "1"}}, {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "0"}}],
            "Burstable",
            {},
        ),
    ],
)
def test_the_class_is_what_the_kubelet_says(
    resources: list[dict[str, Any]], wanted: str, cpus: dict[str, int]
) -> None:
    pod = {"containers": [{"name": str(at), "resources": one} for at, one in enumerate(resources)]}
    assert service_class(pod) == wanted
    assert exclusive_cpus(pod) == cpus
    whole = {"resources": {"limits": {"cpu": "2", "memory": "1Gi"}}, "containers": [{"name": "a"}]}
    assert service_class(whole) == "Guaranteed"


def routes() -> set[str]:
    described = json.loads((ROOT / "cpuserve" / "protocols" / "page" / "openapi.json").read_text())
    return {path for path, methods in described["paths"].items() if "get" in methods}


def check_container(container: dict[str, Any], pod: dict[str, Any]) -> None:
    """Ports, probes, times and rights of one container agree with the server."""
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        get = container[probe]["httpGet"]
        assert KSERVE_ROUTES.get(get["path"], get["path"]) in routes(), get
        assert ports.get(get["port"], get["port"]) in ports.values(), get
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= Settings().model_check_timeout_s
    rights = {**pod.get("securityContext", {}), **container["securityContext"]}
    assert rights["runAsNonRoot"]
    assert rights["runAsUser"] > 0
    assert rights["readOnlyRootFilesystem"]
    assert not rights["allowPrivilegeEscalation"]
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert rights["seccompProfile"] == {"type": "RuntimeDefault"}
    assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}  # noqa: S108


def settings_of(container: dict[str, Any]) -> dict[str, str]:
    by_variable = {setting.variable: name for name, setting in SETTINGS.items()}
    return {by_variable[entry["name"]]: entry["value"] for entry in container["env"]}


def test_containers_agree_with_the_server(rendered: dict[str, list[Manifest]]) -> None:
    for name, manifests in rendered.items():
        (pod,) = pods(manifests)
        (container,) = pod["containers"]
        check_container(container, pod)
        assert container["args"] == ["serve"]
        given = settings_of(container)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert int(given["port"]) == ports["http"]
        assert int(given["grpc_port"]) == ports.get("grpc", 0)
        paused = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        drained = paused + float(given["shutdown_timeout_s"])
        assert pod["terminationGracePeriodSeconds"] > drained, name
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {given["cache_dir"], "/tuning"} <= mounts  # the image's CPUSERVE_TUNING_DIR
        for service in of_kind(manifests, "Service"):
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports.keys()
            labels = of_kind(manifests, "Deployment")[0]["spec"]["template"]["metadata"]["labels"]
            assert service["spec"]["selector"].items() <= labels.items()


def test_the_image_has_the_places_that_manifests_mount() -> None:
    dockerfile = (DEPLOY.parent / "docker" / "Dockerfile").read_text()
    assert "CPUSERVE_TUNING_DIR=/tuning" in dockerfile
    assert "CPUSERVE_MODEL_REPOSITORY=/models" in dockerfile
    assert "CPUSERVE_HOST=0.0.0.0" in dockerfile
    (base,) = of_kind(read("kustomize/base/deployment.yaml"), "Deployment")
    user = base["spec"]["template"]["spec"]["securityContext"]["runAsUser"]
    assert f"USER {user}:{user}" in dockerfile


def test_values_of_the_chart_become_settings(rendered: dict[str, list[Manifest]]) -> None:
    (pod,) = pods(rendered["chart everything"])
    given = settings_of(pod["containers"][0])
    named = {"max_batch": "16", "deadline_ms": "1.5", "strict_readiness": "true"}
    assert named.items() <= given.items()
    assert "replicas" not in of_kind(rendered["chart everything"], "Deployment")[0]["spec"]  # KEDA sets them


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("layout=numa", "/layout"),
        ("cpu=1.5", "/cpu"),
        ("cpu=4000m", "/cpu"),
        ("memory=8", "/memory"),
        ("settings.max_batchx=1", "max_batch"),
        ("settings.port=1", "max_batch"),  # the chart has a value for it
        ("models.claim=a,models.image=b", "/models"),
        ("replicas=two", "/replicas"),
        ("autoscaling.queueTimeMs=0", "queueTimeMs"),
        ("image.tga=1", "tga"),
        ("resources.limits.cpu=1", "resources"),
    ],
)
def test_a_wrong_value_is_refused_by_the_charts_schema(value: str, said: str) -> None:
    done = programs.helm("template", "release", str(DEPLOY / "helm" / "cpuserve"), "--set", value)
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr
    assert said in done.stderr


def test_helm_finds_no_fault_in_the_chart() -> None:
    done = programs.helm("lint", "--strict", str(DEPLOY / "helm" / "cpuserve"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_budgets_select_the_pods_and_nothing_else(rendered: dict[str, list[Manifest]]) -> None:
    counted = 0
    for manifests in rendered.values():
        for budget in of_kind(manifests, "PodDisruptionBudget"):
            labels = of_kind(manifests, "Deployment")[0]["spec"]["template"]["metadata"]["labels"]
            chosen = budget["spec"]["selector"]["matchLabels"]  # none would be every pod of the namespace
            assert chosen
            assert chosen.items() <= labels.items()
            counted += 1
    assert counted == len(rendered) - 1


def test_overlays_spread_over_nodes_or_fill_them(rendered: dict[str, list[Manifest]]) -> None:
    for name in OVERLAYS:
        for manifests in (rendered[name], rendered[f"chart {name}"]):
            (pod,) = pods(manifests)
            assert ("affinity" in pod) == (name == "whole-node")
            assert ("topologySpreadConstraints" in pod) == (name == "numa-node")


def test_the_arguments_of_kserve_are_settings_of_serve() -> None:
    (runtime,) = read("kserve/clusterservingruntime.yaml")
    (container,) = runtime["spec"]["containers"]
    flags = dict(word.removeprefix("--").split("=") for word in container["args"])
    names = {name for setting in SETTINGS.values() for name in (setting.name, setting.ovms)} | {"port"}
    assert flags.keys() <= names
    check_container(container, {"securityContext": {}})
    assert {port["containerPort"] for port in container["ports"]} == {int(flags["rest_port"])}
    assert runtime["spec"]["annotations"]["prometheus.kserve.io/port"] == flags["rest_port"]
    (service,) = read("kserve/inferenceservice.yaml")
    predictor = service["spec"]["predictor"]
    drained = container["lifecycle"]["preStop"]["sleep"]["seconds"] + Settings().shutdown_timeout_s
    assert predictor["terminationGracePeriodSeconds"] > drained
    assert predictor["model"]["runtime"] == runtime["metadata"]["name"]
    assert predictor["model"]["protocolVersion"] in runtime["spec"]["protocolVersions"]
    formats = {one["name"] for one in runtime["spec"]["supportedModelFormats"]}
    assert predictor["model"]["modelFormat"]["name"] in formats


def test_scaling_goes_by_waiting_and_never_by_cpu_use(
    rendered: dict[str, list[Manifest]], components: list[Manifest]
) -> None:
    found = [
        *of_kind(components, "ScaledObject"),
        *of_kind(rendered["chart everything"], "ScaledObject"),
        *read("kserve/scaledobject.yaml"),
    ]
    assert len(found) == 3
    for scaled in found:
        queue, inside = scaled["spec"]["triggers"]
        assert {one["type"] for one in (queue, inside)} == {"prometheus"}
        assert "cpuserve_queue_depth" in queue["metadata"]["query"]
        assert "ovms_wait_for_infer_req_time_us_sum" in queue["metadata"]["query"]
        for query in (queue["metadata"]["query"], inside["metadata"]["query"]):
            assert not re.search(r"cpu_seconds|cpu_usage", query)
            assert query.count("(") == query.count(")")
    target = of_kind(components, "Deployment")[0]["metadata"]["name"]
    assert found[0]["spec"]["scaleTargetRef"]["name"] == target


def test_memory_reserved_for_the_memory_manager_is_what_the_kubelet_asks_for() -> None:
    (kubelet,) = read("nodes/kubelet.yaml")
    reserved = [*(kubelet[key]["memory"] for key in ("kubeReserved", "systemReserved"))]
    reserved.append(kubelet["evictionHard"]["memory.available"])
    given = [one["limits"]["memory"] for one in kubelet["reservedMemory"]]
    assert sum(map(quantity, given)) == sum(map(quantity, reserved))


def test_a_balloon_holds_the_pod_that_is_annotated_for_it(components: list[Manifest]) -> None:
    (policy,) = read("nodes/balloons.yaml")
    (deployment,) = of_kind(components, "Deployment")
    template = deployment["spec"]["template"]
    prefix = "balloon.balloons.resource-policy.nri.io/container."
    chosen = {
        key.removeprefix(prefix): name
        for key, name in template["metadata"]["annotations"].items()
        if key.startswith(prefix)
    }
    (container,) = template["spec"]["containers"]
    (kind,) = (one for one in policy["spec"]["balloonTypes"] if one["name"] == chosen[container["name"]])
    assert kind["maxCPUs"] == quantity(container["resources"]["requests"]["cpu"])
