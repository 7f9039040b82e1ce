"""A Prometheus, as a process, that scrapes what a test started, by the rules and the configuration of `deploy`."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.support.fleet import ROOT, wait_until
from tests.support.ports import free_port

DELIVERED = ROOT / "deploy" / "prometheus"
_EVERY = "500ms"
_FOR = "1s"
_WINDOW = "6s"


class Prometheus:
    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer; ValueError with what Prometheus says to a query that is none."""
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}") as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)["error"]) from None

    def query(self, expr: str) -> list[dict[str, Any]]:
        return list(self.ask("query", query=expr)["result"])

    def names(self) -> set[str]:
        return set(self.ask("label/__name__/values"))

    def firing(self) -> list[dict[str, str]]:
        """The labels of the alerts that fire."""
        return [alert["labels"] for alert in self.ask("alerts")["alerts"] if alert["state"] == "firing"]

    def summary(self, name: str) -> str:
        """Of an alert that is pending or fires; empty when there is none, as after a scrape that failed."""
        alerts = [alert for alert in self.ask("alerts")["alerts"] if alert["labels"]["alertname"] == name]
        return str(alerts[0]["annotations"]["summary"]) if alerts else ""

    def targets_up(self) -> int:
        return sum(target["health"] == "up" for target in self.ask("targets")["activeTargets"])


def configuration(targets: Mapping[str, Sequence[str]], rules: Path) -> dict[str, Any]:
    """That of the compose file, with these targets for its jobs, and without the token that they do not ask for."""
    made: dict[str, Any] = yaml.safe_load((DELIVERED / "prometheus.yml").read_text())
    made["global"] = {"scrape_interval": _EVERY, "evaluation_interval": _EVERY}
    made["rule_files"] = [str(rules)]
    for job in made["scrape_configs"]:
        for key in [key for key in job if key.endswith("_sd_configs") or key == "authorization"]:
            del job[key]
        job["static_configs"] = [{"targets": list(targets[job["job_name"]])}]
    return made


@contextmanager
def prometheus(
    directory: Path, targets: Mapping[str, Sequence[str]], lowered: Mapping[str, str] | None = None
) -> Iterator[Prometheus]:
    """Scrapes twice a second; an alert looks at seconds where it looks at minutes, hours and days, and fires after one
    of what it is for. `lowered`: thresholds that cannot be passed within a test, and what stands for them.
    """
    rules = directory / "rules.yml"
    text = re.sub(r"^(\s+for:) .*$", rf"\1 {_FOR}", (DELIVERED / "rules.yml").read_text(), flags=re.MULTILINE)
    text = re.sub(r"(\[|offset )\d+[mhd]", rf"\g<1>{_WINDOW}", text)
    for threshold, lower in (lowered or {}).items():
        assert text.count(threshold) == 1, threshold
        text = text.replace(threshold, lower)
    rules.write_text(text)
    config = directory / "prometheus.yml"
    config.write_text(yaml.safe_dump(configuration(targets, rules)))
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={config}", f"--web.listen-address={address}", "--log.level=warn"]
    command += [f"--storage.tsdb.path={directory / 'data'}"]
    log = directory / "prometheus.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=directory)
    try:
        wait_until(lambda: _is_ready(address) or process.poll() is not None, saying=log.read_text)
        assert process.poll() is None, log.read_text()
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _is_ready(address: str) -> bool:
    time.sleep(0.1)
    try:
        with urllib.request.urlopen(f"http://{address}/-/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
