"""From samples to what Prometheus reads, by its own library: classic text, or OpenMetrics for whoever asks for it.

Samples are taken on the event loop, where nothing changes meanwhile, and written out in a thread: 2,000 of them take
20 ms and more, for which runs should not have to wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from scheduler.metrics.catalogue import Family
from scheduler.metrics.numbers import Buckets, Sample

Source = Callable[[], Iterable[Sample]]
"""What a part of the process has counted and measured, as of now. It must not wait for anything."""


class Exposition:
    def __init__(self) -> None:
        self._sources: list[Source] = []
        self._process = ProcessCollector(registry=None)

    def add(self, source: Source) -> None:
        self._sources.append(source)

    def samples(self) -> list[Sample]:
        """To be called on the event loop."""
        return [sample for source in self._sources for sample in source()]

    def text(self, samples: Sequence[Sample], accept: str) -> tuple[bytes, str]:
        """The answer to a scrape with such an Accept header, and its media type. Takes its time."""
        registry = CollectorRegistry()
        registry.register(_Families(samples))
        registry.register(self._process)
        encode, media = choose_encoder(accept)
        return encode(registry), media

    async def answer(self, accept: str) -> tuple[bytes, str]:
        return await asyncio.to_thread(self.text, self.samples(), accept)


class _Families(Collector):
    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        by_family: dict[Family, dict[tuple[str, ...], float | Buckets]] = {}
        for family, labels, value in self._samples:
            values = by_family.setdefault(family, {})
            before = values.get(labels)
            if before is None or isinstance(value, Buckets) or isinstance(before, Buckets):
                values[labels] = value
            else:
                values[labels] = family.joined(value, before)
        for family, values in by_family.items():
            yield _metric(family, values)


def _metric(family: Family, values: dict[tuple[str, ...], float | Buckets]) -> Metric:
    metric: Metric
    match family.kind:
        case "info":
            metric = InfoMetricFamily(family.name.removesuffix("_info"), family.meaning)
            for labels in values:
                metric.add_metric((), dict(zip(family.labels, labels, strict=True)))
        case "histogram":
            metric = HistogramMetricFamily(family.name, family.meaning, labels=family.labels)
            for labels, value in values.items():
                if isinstance(value, Buckets):
                    metric.add_metric(labels, _cumulated(family, value), value.sum)
        case _:
            kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            metric = kind(family.name, family.meaning, labels=family.labels)
            for labels, value in values.items():
                if not isinstance(value, Buckets):
                    metric.add_metric(labels, value)
    return metric


def _cumulated(family: Family, value: Buckets) -> list[tuple[str, float]]:
    names = [*map(floatToGoString, family.bounds), "+Inf"]
    return list(zip(names, accumulate(value.counts), strict=True))
