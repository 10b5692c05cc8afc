"""What `deploy/` says must be so here: addresses, ports, options, metrics. Nothing is built or started."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

from mmseek.api.server import ServeSettings, create_app, serve_settings
from mmseek.api.server.metrics import Metrics
from mmseek.cli.app import app as program
from mmseek.testing import FakeEncoder

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
DOCKERFILES = [DEPLOY / "Dockerfile", DEPLOY / "Dockerfile.cuda"]

pytestmark = pytest.mark.skipif(not DEPLOY.is_dir(), reason="deploy/ is not part of an installed package")


def check_command(arguments):
    """The options of `mmseek serve ...` as the command line reads them."""
    assert arguments[0] == "serve"
    command = typer.main.get_command(program).commands["serve"]
    return command.make_context("serve", list(arguments[1:]), resilient_parsing=False).params


def routes():
    return set(create_app(encoder=FakeEncoder()).openapi()["paths"])


def instructions(path):
    joined = path.read_text().replace("\\\n", " ")
    return [line.partition(" ")[::2] for line in joined.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_starts_the_service_as_nobody_special(path):
    found = {}
    for name, value in instructions(path):
        found.setdefault(name, []).append(value)
    assert all(re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+( AS build)?", base) for base in found["FROM"])
    assert found["USER"] == ["10001:10001"]
    options = check_command(json.loads(found["CMD"][0]))
    assert json.loads(found["ENTRYPOINT"][0]) == ["mmseek"]
    assert (options["host"], [str(options["port"])]) == ("0.0.0.0", found["EXPOSE"])
    assert options["api_key_file"] is not None
    assert found["STOPSIGNAL"] == ["SIGTERM"]
    (health,) = re.findall(r"http://127\.0\.0\.1:(\d+)(/[\w/]+)", found["HEALTHCHECK"][0])
    assert health == (str(options["port"]), "/health/live")
    assert health[1] in routes()
    (extras,) = re.findall(r"/src\[([\w,]+)\]", path.read_text())
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.split(",")) <= set(known)


def test_both_images_differ_in_torch_alone():
    cpu, cuda = (dict(enumerate(map(tuple, instructions(path)))) for path in DOCKERFILES)
    assert len(cpu) == len(cuda)
    different = [cpu[number][1] for number in cpu if cpu[number] != cuda[number]]
    assert all("torch" in each or "PYTHONUNBUFFERED" in each for each in different)


def test_secrets_and_virtual_environments_stay_out_of_the_images():
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv", "*.jsonl"} <= set(ignored)


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text)[1])


def test_compose():
    found = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    service, qdrant = found["services"]["mmseek"], found["services"]["qdrant"]
    options = check_command(service["command"])
    assert options["collection"].startswith("qdrant://qdrant:6333/")
    (port,) = service["ports"]
    assert port == f"127.0.0.1:8000:{options['port']}"  # this machine alone
    assert str(options["api_key_file"]) == f"/run/secrets/{service['secrets'][0]}"
    assert service["secrets"][0] in found["secrets"]
    assert (ROOT / "deploy" / service["build"]["context"] / service["build"]["dockerfile"]).resolve() == DOCKERFILES[0]
    assert seconds(service["stop_grace_period"]) > int(service["environment"]["MMSEEK_SERVE_DRAIN_SECONDS"])
    names = {f"MMSEEK_SERVE_{name.upper()}" for name in ServeSettings.model_fields}
    assert set(service["environment"]) <= names
    assert re.fullmatch(r"qdrant/qdrant:v\d+\.\d+\.\d+", qdrant["image"])
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])


@pytest.fixture
def objects():
    return {each["kind"]: each for each in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())}


@pytest.fixture
def pod(objects):
    return objects["Deployment"]["spec"]["template"]["spec"]


def test_kubernetes_starts_what_there_is(objects, pod, tmp_path):
    (container,) = pod["containers"]
    options = check_command(container["args"])
    file = tmp_path / "serve.toml"
    file.write_text(objects["ConfigMap"]["data"]["serve.toml"])
    asked = serve_settings(file)
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(options["config"]) in mounted
    assert str(asked.api_key_file.parent) in mounted
    assert (asked.host, asked.port) == ("0.0.0.0", container["ports"][0]["containerPort"])
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert objects["Service"]["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        objects["Service"]["spec"]["selector"],
        objects["Deployment"]["spec"]["selector"]["matchLabels"],
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()


def test_kubernetes_probes_and_drains(objects, pod, tmp_path):
    (container,) = pod["containers"]
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {probe["path"] for probe in probes.values()} <= routes()
    assert probes["liveness"]["path"] == "/health/live"
    assert probes["readiness"]["path"] == "/health/ready"
    assert {probe["port"] for probe in probes.values()} == {container["ports"][0]["name"]}
    file = tmp_path / "serve.toml"
    file.write_text(objects["ConfigMap"]["data"]["serve.toml"])
    pause = int(shlex.split(" ".join(container["lifecycle"]["preStop"]["exec"]["command"]))[1])
    assert pod["terminationGracePeriodSeconds"] > pause + serve_settings(file).drain_seconds
    assert objects["Deployment"]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_kubernetes_runs_as_nobody_special(pod):
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001  # that of the image
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"requests", "limits"} <= set(container["resources"])


def test_the_dashboard_shows_metrics_that_there_are():
    board = json.loads((DEPLOY / "grafana" / "mmseek.json").read_text())
    asked = {
        name
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"mmseek_\w+", target["expr"])
    }
    metrics = Metrics()
    told = {sample.name for family in metrics._registry.collect() for sample in family.samples}
    types = {family.name: family.type for family in metrics._registry.collect()}
    for name in asked:
        base = re.sub(r"_(bucket|sum|count|total)$", "", name)
        suffix = name.removeprefix(base)
        assert base in types, name
        expected = {"counter": {"_total"}, "gauge": {""}, "histogram": {"_bucket", "_sum", "_count"}}[types[base]]
        assert suffix in expected, name
    assert told  # gauges without labels have samples at once
