"""What dashboards are made of: panels, variables, annotations, and a dashboard of them, in Grafana's JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
RATE = "[$__rate_interval]"

# Of a process; of an outcome. The rest takes Grafana's own palette.
COLOURS = {"succeeded": "green", "failed": "red", "lost": "purple", "cancelled": "yellow"}

# Since an instant that never was, which is told as 0: more than 30 years.
NEVER = {"type": "range", "options": {"from": 1e9, "to": None, "result": {"text": "never", "color": "red"}}}

Query = tuple[str, str]  # the expression, and the legend of its series
Json = dict[str, Any]


def quantiles(histogram: str, where: str, by: str = "") -> list[Query]:
    """The median and the 99th of a hundred, over all processes or for each value of a label."""
    legend = f"{{{{{by}}}}} " if by else ""
    labels = f"{by}, le" if by else "le"
    return [
        (f"histogram_quantile({q}, sum by ({labels}) (rate({histogram}_bucket{{{where}}}{RATE})))", f"{legend}p{name}")
        for q, name in ((0.5, "50"), (0.99, "99"))
    ]


def stat(title: str, expr: str, unit: str, about: str, *, red: float | None = None, least: float | None = None) -> Json:
    """A number. Red from `red` on, or below `least`."""
    steps: list[Json] = [{"color": "green" if least is None else "red", "value": None}]
    if red is not None:
        steps.append({"color": "red", "value": red})
    if least is not None:
        steps.append({"color": "green", "value": least})
    return {
        "type": "stat",
        "title": title,
        "description": about,
        "targets": targets([(expr, "")], instant=True),
        "fieldConfig": {
            "defaults": {"unit": unit, "noValue": "none", "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"},
    }


def graph(title: str, queries: Iterable[Query], unit: str, about: str, *, stacked: bool = False) -> Json:
    custom = {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 30 if stacked else 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
    }
    return {
        "type": "timeseries",
        "title": title,
        "description": about,
        "targets": targets(queries),
        "fieldConfig": {
            "defaults": {"unit": unit, "min": 0, "custom": custom},
            "overrides": [
                {
                    "matcher": {"id": "byName", "options": name},
                    "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
                }
                for name, colour in COLOURS.items()
            ],
        },
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def heat(title: str, expr: str, unit: str, about: str) -> Json:
    """How a histogram's buckets fill over time."""
    return {
        "type": "heatmap",
        "title": title,
        "description": about,
        "targets": [{**one, "format": "heatmap"} for one in targets([(expr, "{{le}}")])],
        "fieldConfig": {"defaults": {}, "overrides": []},
        "options": {
            "calculate": False,
            "yAxis": {"unit": unit},
            "color": {"mode": "scheme", "scheme": "Blues", "steps": 64},
            "cellGap": 1,
            "legend": {"show": True},
            "tooltip": {"mode": "single"},
        },
    }


def table(title: str, expr: str, unit: str, about: str, *, names: dict[str, str], link: Json | None = None) -> Json:
    """The labels of `names` as columns, under these names, and the value as the last."""
    overrides = [
        {
            "matcher": {"id": "byName", "options": names["Value"]},
            "properties": [{"id": "unit", "value": unit}, {"id": "mappings", "value": [NEVER]}],
        },
    ]
    if link is not None:
        overrides.append(
            {"matcher": {"id": "byName", "options": link["column"]}, "properties": [{"id": "links", "value": [link]}]}
        )
    hidden = ["Time", "__name__", "instance", "process"]
    return {
        "type": "table",
        "title": title,
        "description": about,
        "targets": [{**one, "format": "table"} for one in targets([(expr, "")], instant=True)],
        "fieldConfig": {"defaults": {}, "overrides": overrides},
        "options": {"showHeader": True, "sortBy": [{"displayName": names["Value"], "desc": True}]},
        "transformations": [
            {
                "id": "organize",
                "options": {
                    "excludeByName": {name: True for name in hidden if name not in names},
                    "indexByName": {name: place for place, name in enumerate(names)},
                    "renameByName": names,
                },
            }
        ],
    }


def targets(queries: Iterable[Query], *, instant: bool = False) -> list[Json]:
    return [
        {
            "refId": chr(ord("A") + place),
            "datasource": SOURCE,
            "expr": expr,
            "legendFormat": legend or "__auto",
            "range": not instant,
            "instant": instant,
        }
        for place, (expr, legend) in enumerate(queries)
    ]


def variable(name: str, query: str, *, many: bool = True) -> Json:
    """A choice of a label's values; `many` for several of them, or all."""
    return {
        "type": "query",
        "name": name,
        "label": name,
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,  # when the range of time changes, too: what was there then can be chosen
        "sort": 1,
        "multi": many,
        "includeAll": many,
        "allValue": ".*" if many else None,
        "current": {"text": "All", "value": "$__all"} if many else {},
    }


def annotation(name: str, expr: str, colour: str, title: str, text: str) -> Json:
    return {
        "name": name,
        "datasource": SOURCE,
        "enable": True,
        "expr": expr,
        "iconColor": colour,
        "titleFormat": title,
        "textFormat": text,
        "step": "30s",
    }


ANNOTATIONS = [
    annotation(
        "alerts",
        'ALERTS{alertname=~"Walclock.+",alertstate="firing"}',
        "red",
        "{{alertname}}",
        "{{app}} {{queue}} {{instance}}",
    ),
    annotation(
        "starts of processes",
        'process_start_time_seconds{job=~"walclock-.+"} > time() - 60',
        "blue",
        "{{instance}} started",
        "{{job}}",
    ),
]
PICK = {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus", "current": {}}
TITLES = {
    "walclock-overview": "Walclock: overview",
    "walclock-app": "Walclock: one app",
    "walclock-job": "Walclock: one job",
    "walclock-servers": "Walclock: servers and database",
}


def dashboard(uid: str, variables: list[Json], rows: list[tuple[int, list[Json]]]) -> Json:
    """`rows`: the height of each, and its panels, which share its width."""
    panels, top = [], 0
    for height, row in rows:
        width = 24 // len(row)
        for place, panel in enumerate(row):
            where = {"x": place * width, "y": top, "w": width, "h": height}
            panels.append({"id": len(panels) + 1, "datasource": SOURCE, "gridPos": where, **panel})
        top += height
    links = [
        {"type": "link", "title": title, "url": f"/d/{other}", "includeVars": True, "keepTime": True}
        for other, title in TITLES.items()
        if other != uid
    ]
    return {
        "uid": uid,
        "title": TITLES[uid],
        "tags": ["walclock"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "",
        "templating": {"list": [PICK, *variables]},
        "annotations": {"list": ANNOTATIONS},
        "links": links,
        "panels": panels,
    }
