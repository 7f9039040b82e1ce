"""The dashboards, as files: what is committed is what is drawn, and nothing in them points nowhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.fleet import ROOT

GRAFANA = ROOT / "deploy" / "grafana"
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((GRAFANA / "dashboards").glob("*.json"))}
each = pytest.mark.parametrize("uid", BOARDS)


def test_what_is_committed_is_what_is_drawn(tmp_path: Path) -> None:
    subprocess.run([sys.executable, GRAFANA / "draw.py", tmp_path], check=True)
    drawn = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert drawn == {path.name: path.read_text() for path in (GRAFANA / "dashboards").iterdir()}


@each
def test_a_dashboard_is_named_as_its_file_and_leads_to_all_others(uid: str) -> None:
    board = BOARDS[uid]
    assert board["uid"] == uid
    assert {link["url"].removeprefix("/d/") for link in board["links"]} == set(BOARDS) - {uid}
    inside = re.findall(r'"url": "/d/([\w-]+)\?', json.dumps(board["panels"]))
    assert set(inside) <= set(BOARDS)


@each
def test_panels_say_what_they_show_and_lie_beside_each_other(uid: str) -> None:
    panels = BOARDS[uid]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["title"], panel["id"]
        assert panel["description"].endswith("."), panel["title"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        if panel["type"] in ("stat", "timeseries"):
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below


@each
def test_queries_go_to_the_source_that_was_chosen_and_use_variables_that_there_are(uid: str) -> None:
    board = BOARDS[uid]
    variables = {one["name"] for one in board["templating"]["list"]}
    assert "datasource" in variables
    for holder in [*targets(board), *board["annotations"]["list"]]:
        assert holder["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        used = set(re.findall(r"\$\{?(\w+)", holder["expr"])) - {"__rate_interval"}
        assert used <= variables, holder["expr"]


def test_what_is_chosen_is_carried_from_one_dashboard_to_the_next() -> None:
    """A variable of the same name means the same, so `includeVars` of the links is enough."""
    for board in BOARDS.values():
        assert all(link["includeVars"] and link["keepTime"] for link in board["links"])


def test_grafana_is_told_where_the_dashboards_and_the_source_are() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    mounts = dict(volume.split(":")[:2][::-1] for volume in compose["volumes"])
    providers = yaml.safe_load((GRAFANA / "provisioning/dashboards/walclock.yml").read_text())["providers"]
    assert mounts[providers[0]["options"]["path"]] == "./deploy/grafana/dashboards"
    home = compose["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert Path(home).stem in BOARDS
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert sources[0]["url"] == "http://prometheus:9090"


def targets(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [target for panel in board["panels"] for target in panel["targets"]]
