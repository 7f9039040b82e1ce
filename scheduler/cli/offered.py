"""Which executors a process offers: those that were named, else those that suit the database and can be had here."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from importlib.util import find_spec

import click

log = logging.getLogger(__name__)

EMBEDDED = ("python", "shell", "http", "sql", "kafka", "sidekiq", "alarm")
ELSEWHERE = ("python", "http", "alarm")  # what a database of other people may ask of this machine unless told
_NEEDS = {  # executor to the module that it needs, and the extra that brings it
    "http": ("aiohttp", "http"),
    "alarm": ("aiohttp", "http"),
    "kafka": ("confluent_kafka", "kafka"),
    "sidekiq": ("redis", "redis"),
}
# Executors that can do nothing before they know where the other system is: offered unasked only where that is said.
_SAID = {"kafka": "SCHEDULER_KAFKA_BROKERS", "sidekiq": "SCHEDULER_REDIS_URL"}


def offered(option: str | None, default: Sequence[str]) -> list[str]:
    """Those asked for, or the default ones that are set up and installed; the worker refuses what it does not have."""
    if option is not None:
        names = list(dict.fromkeys(name.strip() for name in option.split(",") if name.strip()))
        if not names:
            raise click.UsageError("--executors names none: write --executors python,http")
        return names
    meant = [name for name in default if name not in _SAID or os.environ.get(_SAID[name])]
    absent = [name for name in meant if name in _NEEDS and find_spec(_NEEDS[name][0]) is None]
    for name in absent:
        log.warning("without the executor %s: pip install 'walclock[%s]'", name, _NEEDS[name][1])
    return [name for name in meant if name not in absent]
