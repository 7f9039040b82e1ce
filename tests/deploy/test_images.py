"""The image, the compose file and the manifests, as the tools that will read them do. There is no engine here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict

from scheduler.cli import cli
from scheduler.config import Settings
from tests.support.fleet import ROOT

BIN = Path(sys.executable).parent
DEPLOY = ROOT / "deploy"
SERVICES = ("server-1", "server-2", "worker", "migrate", "load")


def run(*command: str | Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


# --- the image


def dockerfile() -> list[str]:
    """Its instructions, a line each."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    return [" ".join(line.split()) for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def test_the_linter_of_dockerfiles_has_nothing_to_say() -> None:
    run(BIN / "hadolint", "--failure-threshold", "style", "Dockerfile")


def test_what_runs_in_the_image_is_nobody_and_comes_without_what_built_it() -> None:
    lines = dockerfile()
    stages = [place for place, line in enumerate(lines) if line.startswith("FROM ")]
    assert len(stages) == 2
    final = lines[stages[1] :]
    assert re.fullmatch(r"FROM python:3\.\d+-slim-\w+", final[0])
    assert "USER 10001:10001" in final
    assert not any("pip install" in line or "apt-get" in line for line in final)
    assert any(line.startswith("HEALTHCHECK ") for line in final)


def test_what_the_image_is_built_of_is_there_and_let_through() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source
        for line in dockerfile()
        if line.startswith("COPY ") and "--from" not in line
        for source in [word for word in line.split()[1:-1] if not word.startswith("--")]
    }
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)


def test_the_image_installs_extras_that_there_are() -> None:
    extras = re.search(r"'\.\[([\w,]+)\]'", (ROOT / "Dockerfile").read_text())
    assert extras
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(extras[1].split(",")) <= set(project["optional-dependencies"])


@pytest.fixture
def answering() -> Iterator[tuple[str, dict[str, int]]]:
    """A server whose paths answer with the status that is written down for them, 401 to who has not the token."""
    statuses: dict[str, int] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = statuses[self.path]
            self.send_response(401 if status == 401 and self.headers["Authorization"] != "Bearer secret" else status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", statuses
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_container_is_healthy_while_its_process_says_so(
    answering: tuple[str, dict[str, int]], tmp_path: Path
) -> None:
    url, statuses = answering
    statuses.update({"/well": 200, "/ill": 503, "/shut": 401})
    token = tmp_path / "token"
    token.write_text("secret\n")
    healthy = DEPLOY / "healthy.py"

    def status(*words: str | Path) -> int:
        env = {**os.environ, "http_proxy": "http://127.0.0.1:1"}
        return subprocess.run([sys.executable, healthy, *words], env=env, capture_output=True, check=False).returncode

    assert status(f"{url}/well") == 0
    assert status(f"{url}/ill") == 1
    assert status(f"{url}/shut") == 0, "it lives, and tells its figures to others"
    assert status(f"{url}/shut", token) == 1, "what it was started with is not what it takes"
    assert status("http://127.0.0.1:1/nobody") == 1


# --- the compose file


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    """What `docker compose` makes of it, with nothing in the environment."""
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    text = run(BIN / "docker-compose", "-f", "docker-compose.yml", "config", "--format", "json", env=env)
    return dict(json.loads(text))


def test_everything_that_was_promised_is_started(composed: dict[str, Any]) -> None:
    services = composed["services"]
    assert set(services) == {"secrets", "postgres", "prometheus", "grafana", *SERVICES}
    assert services["worker"]["scale"] == 2


def test_ports_are_published_to_this_machine_alone(composed: dict[str, Any]) -> None:
    published = [port for service in composed["services"].values() for port in service.get("ports", [])]
    assert {port["published"] for port in published} == {"3000", "8081", "8082", "9090"}
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}


def test_no_secret_is_in_the_compose_file(composed: dict[str, Any]) -> None:
    for name, service in composed["services"].items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|TOKEN|SECRET|KEY", variable):
                assert value.startswith("/secrets/"), f"{name}: {variable}"
            if "DSN" in variable:
                assert "password" not in conninfo_to_dict(value)


def test_nobody_has_more_rights_than_are_needed(composed: dict[str, Any]) -> None:
    for name, service in composed["services"].items():
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not service.get("privileged"), name
        if name != "postgres":  # gives its folder to a user of its own
            assert service["cap_drop"] == ["ALL"], name
        if name in SERVICES:
            assert service["read_only"], name
            assert "user" not in service, name  # but the image's


def test_what_is_mounted_from_here_is_here_and_cannot_be_written_to(composed: dict[str, Any]) -> None:
    for name, service in composed["services"].items():
        for mount in service["volumes"]:
            if mount["type"] == "bind":
                assert Path(mount["source"]).exists(), (name, mount)
                assert mount["read_only"], (name, mount)
            elif mount["source"] == "secrets" and name != "secrets":
                assert mount["read_only"], (name, mount)


def test_every_command_is_one_that_there_is(composed: dict[str, Any]) -> None:
    for name in ("server-1", "server-2", "worker", "migrate"):
        understands(composed["services"][name]["command"])


def test_secrets_are_made_once_at_random_and_for_one_reader_each(tmp_path: Path) -> None:
    made = []
    for folder in (tmp_path / "one", tmp_path / "other"):
        folder.mkdir()
        script = DEPLOY / "compose" / "make_secrets.py"
        run(sys.executable, script, folder)
        first = {path.name: path.read_text() for path in folder.iterdir()}
        run(sys.executable, script, folder)
        assert {path.name: path.read_text() for path in folder.iterdir()} == first, "a second start changed them"
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o400}
        made.append(first)
    one, other = made
    assert set(one) == {"postgres", "pgpass", "metrics-token", "metrics-token-prometheus", "grafana-admin"}
    assert one["pgpass"].endswith(f":{one['postgres']}")
    assert one["metrics-token"] == one["metrics-token-prometheus"]
    assert all(len(text) >= 43 for text in one.values())
    assert not set(one.values()) & set(other.values())


# --- Kubernetes


@pytest.fixture(scope="module")
def manifests() -> list[dict[str, Any]]:
    """What `kubectl apply -k` would send."""
    return list(yaml.safe_load_all(run(BIN / "kubectl", "kustomize", "deploy/kubernetes")))


def pods(manifests: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (one["metadata"]["name"], one["spec"]["template"]["spec"])
        for one in manifests
        if one["kind"] in ("Deployment", "Job")
    ]


@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_each_manifest_keeps_to_its_schema(manifests: list[dict[str, Any]], version: str) -> None:
    assert len(manifests) == 10
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)
        if manifest["kind"] != "Namespace":
            assert manifest["metadata"]["namespace"] == "walclock"


def test_a_pod_would_be_let_in_where_pods_are_restricted(manifests: list[dict[str, Any]]) -> None:
    """The standard that the namespace enforces."""
    for name, pod in pods(manifests):
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        assert not any(key.startswith("host") for key in pod), name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"], name
            assert re.fullmatch(r"walclock:\d+\.\d+\.\d+", container["image"])


def test_no_secret_is_in_a_manifest(manifests: list[dict[str, Any]]) -> None:
    assert not any(one["kind"] == "Secret" for one in manifests)
    for _, pod in pods(manifests):
        for container in pod["containers"]:
            for variable in container["env"]:
                if variable["name"].startswith("SCHEDULER_"):
                    assert "secretKeyRef" in variable["valueFrom"]


def test_containers_are_given_commands_that_there_are(manifests: list[dict[str, Any]]) -> None:
    for _, pod in pods(manifests):
        for container in pod["containers"]:
            understands(container["args"])


def test_probes_and_services_ask_ports_that_are_open(manifests: list[dict[str, Any]]) -> None:
    for name, pod in pods(manifests):
        for container in pod["containers"]:
            ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                probe = container.get(kind, {})
                asked = probe.get("httpGet", probe.get("tcpSocket"))
                assert asked is None or asked["port"] in ports, name
            for port in ports.values():
                assert f"0.0.0.0:{port}" in container["args"], name


def test_a_worker_may_use_up_its_grace_before_kubernetes_kills_it(manifests: list[dict[str, Any]]) -> None:
    worker = dict(pods(manifests))["worker"]
    assert worker["terminationGracePeriodSeconds"] > Settings().grace + 22


def understands(words: list[str]) -> None:
    """The command line takes it; nothing is started."""
    command = cli.get_command(click.Context(cli), words[0])
    assert command is not None
    command.make_context(words[0], list(words[1:]), resilient_parsing=False)
