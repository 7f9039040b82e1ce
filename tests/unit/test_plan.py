"""What a planner decides about the instants of one job."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from scheduler.plan import ROWS, Plan, plan
from scheduler.store.duty import DueJobs

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
DAY = 86_400.0
JOB = DueJobs(
    app="shop",
    epoch=1,
    jobs=["tidy"],
    revisions=[1],
    last_job="tidy",
    schedule="* * * * *",
    timezone="UTC",
    dst_gap="after",
    dst_fold="first",
    overlap="allow",
    misfire="one",
    misfire_grace=DAY,
    misfire_limit=100,
    jitter=0.0,
    starts_at=None,
    ends_at=None,
    next_at=None,
    expected="-infinity",
    after_at=NOW,
    anchor_at=NOW,
    read_at=NOW,
)


def at(hours: float = 0, *, minutes: float = 0, seconds: float = 0) -> datetime:
    return NOW + timedelta(hours=hours, minutes=minutes, seconds=seconds)


def planned(job: DueJobs = JOB, *, ahead: float = 10, **changes: Any) -> Plan:
    job = replace(job, **changes)
    return plan(job, job.read_at + timedelta(seconds=ahead))


def outcomes(one: Plan) -> list[tuple[datetime, str]]:
    return [(fire.at, fire.outcome) for fire in one.fires]


def all_plans(job: DueJobs, *, limit: int = 50) -> list[Plan]:
    """What a planner makes of the job, one plan after the other, until nothing within its horizon is left."""
    until = job.read_at + timedelta(seconds=10)
    plans: list[Plan] = []
    while len(plans) < limit:
        plans.append(plan(job, until))
        following = plans[-1].next_at
        if following is None or following > until:
            return plans
        job = replace(job, next_at=following, expected=following.isoformat())
    raise AssertionError(f"not done after {limit} plans")


def test_the_first_instant_comes_strictly_after_the_definition() -> None:
    assert planned().next_at == at(minutes=1)


def test_an_instant_beyond_the_horizon_is_only_noted() -> None:
    assert planned().fires == ()


def test_an_instant_within_the_horizon_is_planned_and_the_next_noted() -> None:
    one = planned(after_at=at(seconds=-1))
    assert outcomes(one) == [(NOW, "planned")]
    assert one.next_at == at(minutes=1)


def test_a_run_may_start_at_its_instant() -> None:
    assert planned(after_at=at(seconds=-1)).fires[0].run_at == NOW


def test_a_job_that_may_overlap_plans_all_within_the_horizon() -> None:
    one = planned(schedule="*/2 * * * * *", next_at=at(seconds=2))
    assert [fire.at for fire in one.fires] == [at(seconds=second) for second in (2, 4, 6, 8, 10)]
    assert one.next_at == at(seconds=12)


@pytest.mark.parametrize("overlap", ["skip", "queue", "replace"])
def test_a_job_that_may_not_overlap_plans_one_at_a_time(overlap: str) -> None:
    one = planned(schedule="*/2 * * * * *", next_at=at(seconds=2), overlap=overlap)
    assert outcomes(one) == [(at(seconds=2), "planned")]
    assert one.next_at == at(seconds=4)


def test_no_plan_has_more_rows_than_the_bound() -> None:
    one = planned(schedule="@every 10ms", next_at=at(seconds=0.01), ahead=100)
    assert len(one.fires) == ROWS
    assert one.next_at == at(seconds=0.01 * (ROWS + 1))


def test_nothing_comes_before_the_job_starts_and_its_start_counts() -> None:
    assert planned(starts_at=at(2)).next_at == at(2)


def test_a_start_in_the_past_is_no_start() -> None:
    assert planned(starts_at=at(-2)).next_at == at(minutes=1)


def test_nothing_comes_after_the_job_ends_and_its_end_counts() -> None:
    one = planned(next_at=NOW, ends_at=NOW)
    assert outcomes(one) == [(NOW, "planned")]
    assert one.next_at is None


def test_a_job_that_has_ended_has_no_next_instant() -> None:
    assert planned(ends_at=at(-1)).next_at is None


def test_a_schedule_that_never_fires_again_has_no_next_instant() -> None:
    assert planned(schedule="@every 36500d", anchor_at=datetime(9990, 1, 1, tzinfo=UTC)).next_at is None


def test_a_bad_schedule_is_told_and_plans_nothing() -> None:
    one = planned(schedule="61 * * * *")
    assert (one.next_at, one.fires) == (None, ())
    assert "minute" in str(one.error)


def test_an_unknown_zone_is_told() -> None:
    assert "Mars/Olympus" in str(planned(timezone="Mars/Olympus").error)


def test_the_zone_and_its_choices_count() -> None:
    autumn = datetime(2026, 11, 1, 4, 0, tzinfo=UTC)
    night = replace(JOB, schedule="30 1 * * *", timezone="America/New_York", after_at=autumn, read_at=autumn)
    assert planned(night).next_at == datetime(2026, 11, 1, 5, 30, tzinfo=UTC)
    assert planned(night, dst_fold="second").next_at == datetime(2026, 11, 1, 6, 30, tzinfo=UTC)


def test_every_counts_from_its_anchor() -> None:
    one = planned(schedule="@every 7m", anchor_at=at(-1, minutes=0))
    assert one.next_at == at(-1, minutes=63)


def test_jitter_is_the_same_whoever_plans_and_within_its_bound() -> None:
    one, two = (planned(schedule="* * * * * *", next_at=NOW, jitter=30.0) for _ in range(2))
    delays = [(fire.run_at - fire.at).total_seconds() for fire in one.fires if fire.run_at]
    assert one == two
    assert all(0 <= delay < 30 for delay in delays)
    assert len(set(delays)) == len(one.fires)


def test_jitter_differs_between_jobs() -> None:
    job = replace(JOB, next_at=NOW, jitter=30.0)
    assert planned(job).fires != planned(replace(job, jobs=["other"])).fires


def test_a_few_seconds_late_is_not_late() -> None:
    one = planned(schedule="* * * * * *", next_at=at(seconds=-5), misfire="skip", ahead=0)
    assert {fire.outcome for fire in one.fires} == {"planned"}
    assert one.fires[0].run_at == at(seconds=-5)


def test_misfire_skip_passes_over_what_is_late() -> None:
    one = planned(next_at=at(minutes=-3), misfire="skip")
    assert outcomes(one) == [(at(minutes=-minute), "skipped") for minute in (3, 2, 1)]
    assert all("misfire" in str(fire.reason) for fire in one.fires)
    assert one.next_at == NOW


@pytest.mark.parametrize("overlap", ["allow", "skip", "queue", "replace"])
def test_misfire_one_plans_the_latest_and_coalesces_the_others_into_it(overlap: str) -> None:
    one = planned(next_at=at(minutes=-3), overlap=overlap)
    assert outcomes(one) == [
        (at(minutes=-3), "coalesced"),
        (at(minutes=-2), "coalesced"),
        (at(minutes=-1), "planned"),
    ]
    assert one.fires[-1].run_at == NOW
    assert "11:59" in str(one.fires[0].reason)
    assert one.next_at == NOW


def test_misfire_one_of_a_single_late_instant_plans_it() -> None:
    assert outcomes(planned(schedule="0 * * * *", next_at=at(-1))) == [(at(-1), "planned")]


def test_misfire_all_plans_all_that_is_late_now() -> None:
    one = planned(next_at=at(minutes=-3), misfire="all")
    assert outcomes(one) == [(at(minutes=-minute), "planned") for minute in (3, 2, 1)]
    assert {fire.run_at for fire in one.fires} == {NOW}


def test_misfire_all_gives_up_the_oldest_beyond_its_limit() -> None:
    first, second = all_plans(replace(JOB, next_at=at(minutes=-5), misfire="all", misfire_limit=2))[:2]
    assert outcomes(first) == [(at(minutes=-minute), "missed") for minute in (5, 4, 3)]
    assert all("misfire_limit, 2," in str(fire.reason) for fire in first.fires)
    assert outcomes(second) == [(at(minutes=-minute), "planned") for minute in (2, 1)]


def test_misfire_all_without_overlap_goes_on_oldest_first() -> None:
    plans = all_plans(replace(JOB, next_at=at(minutes=-3), misfire="all", overlap="queue"))
    assert [outcomes(one) for one in plans] == [[(at(minutes=-minute), "planned")] for minute in (3, 2, 1, 0)]


def test_what_is_older_than_its_grace_is_missed_whatever_the_policy() -> None:
    for misfire in ("skip", "one", "all"):
        one = planned(next_at=at(minutes=-3), misfire=misfire, misfire_grace=90.0)
        assert outcomes(one) == [(at(minutes=-3), "missed"), (at(minutes=-2), "missed")]
        assert "0:03:00 late" in str(one.fires[0].reason)
        assert "0:01:30" in str(one.fires[0].reason)
        assert one.next_at == at(minutes=-1)


def test_without_grace_all_that_is_late_is_missed() -> None:
    one = planned(next_at=at(minutes=-2), misfire_grace=0.0)
    assert outcomes(one) == [(at(minutes=-2), "missed"), (at(minutes=-1), "missed")]
    assert one.next_at == NOW


def test_a_grace_without_end_is_none() -> None:
    one = planned(schedule="0 0 1 * *", next_at=datetime(2026, 2, 1, tzinfo=UTC), misfire_grace=1e10)
    assert [fire.outcome for fire in one.fires] == ["coalesced", "planned"]


@pytest.mark.parametrize(
    ("schedule", "outage"),
    [("* * * * * *", timedelta(days=365)), ("@every 10ms", timedelta(days=365)), ("* * * 2 *", timedelta(days=365))],
)
def test_an_outage_of_a_year_is_a_bounded_plan(schedule: str, outage: timedelta) -> None:
    job = replace(JOB, schedule=schedule, anchor_at=NOW - outage, after_at=NOW - outage)
    plans = all_plans(job, limit=10)
    assert all(len(one.fires) <= ROWS for one in plans)
    rest = [fire for one in plans for fire in one.fires if "every instant from" in str(fire.reason)]
    assert [fire.outcome for fire in rest][:1] == ["missed"]
    late_runs = [fire for one in plans for fire in one.fires if fire.run_at and "misfire" in str(fire.reason)]
    assert len(late_runs) <= 1


def test_of_a_long_outage_the_newest_are_kept() -> None:
    job = replace(JOB, schedule="* * * * * *", next_at=at(-20), misfire="all", misfire_limit=10)
    plans = all_plans(job)
    late = [fire.at for one in plans for fire in one.fires if fire.run_at == NOW and fire.reason]
    assert late == [at(seconds=-second) for second in range(15, 5, -1)]


def test_the_newest_are_found_in_a_schedule_of_bursts() -> None:
    job = replace(JOB, schedule="* * * 1 *", after_at=at(-24 * 90), misfire="all", misfire_limit=3, misfire_grace=1e10)
    late = [fire.at for one in all_plans(job) for fire in one.fires if fire.outcome == "planned"]
    assert late == [datetime(2026, 1, 31, 23, minute, tzinfo=UTC) for minute in (57, 58, 59)]


def test_no_instant_is_decided_twice_or_left_out() -> None:
    job = replace(JOB, schedule="*/7 * * * *", next_at=at(-30), misfire="all", misfire_limit=5)
    fires = [fire for one in all_plans(job) for fire in one.fires]
    spaces = {later.at - earlier.at for earlier, later in pairwise(fires)}
    assert spaces <= {timedelta(minutes=7), timedelta(minutes=4)}  # the hour's last is at :56
    assert len(fires) == 30 * 9 + 1


AFTER = replace(JOB, schedule="@after 30s")


def test_a_fixed_delay_begins_with_a_delay() -> None:
    one = planned(AFTER)
    assert (one.next_at, one.fires, one.delay) == (at(seconds=30), (), timedelta(seconds=30))


def test_a_fixed_delay_that_began_before_its_start_waits_for_it() -> None:
    assert planned(AFTER, starts_at=at(1)).next_at == at(1)


def test_the_instant_of_a_fixed_delay_is_planned_and_the_next_left_open() -> None:
    one = planned(AFTER, next_at=at(seconds=8))
    assert outcomes(one) == [(at(seconds=8), "planned")]
    assert (one.next_at, one.delay) == (None, timedelta(seconds=30))


@pytest.mark.parametrize(("misfire", "outcome"), [("skip", "skipped"), ("one", "planned"), ("all", "planned")])
def test_a_late_instant_of_a_fixed_delay_follows_its_policy(misfire: str, outcome: str) -> None:
    one = planned(AFTER, next_at=at(-1), misfire=misfire)
    assert outcomes(one) == [(at(-1), outcome)]
    assert (one.next_at, one.delay) == (None, timedelta(seconds=30))


def test_a_fixed_delay_past_its_grace_is_missed_and_goes_on() -> None:
    one = planned(AFTER, next_at=at(-2), misfire_grace=60.0)
    assert outcomes(one) == [(at(-2), "missed")]
    assert one.delay == timedelta(seconds=30)


def test_a_fixed_delay_that_ended_has_no_delay_so_nothing_follows() -> None:
    one = planned(AFTER, next_at=at(seconds=8), ends_at=at(seconds=7))
    assert (one.next_at, one.fires, one.delay) == (None, (), None)


def test_a_plan_speaks_the_words_of_the_database() -> None:
    assert planned(next_at=NOW, expected="2026-03-01 12:00:00+00", revisions=[7]).as_json() == {
        "jobs": ["tidy"],
        "revisions": [7],
        "expected": "2026-03-01 12:00:00+00",
        "next": "2026-03-01T12:01:00+00:00",
        "delay": None,
        "error": None,
        "fires": [
            {
                "at": "2026-03-01T12:00:00+00:00",
                "outcome": "planned",
                "reason": None,
                "run_at": "2026-03-01T12:00:00+00:00",
            }
        ],
    }


def test_a_delay_is_sent_to_the_microsecond() -> None:
    assert planned(replace(AFTER, schedule="@after 36500d")).as_json()["delay"] == "3153600000.000000 seconds"
    assert planned(replace(AFTER, schedule="@after 1500us")).as_json()["delay"] == "0.001500 seconds"
