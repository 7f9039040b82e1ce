"""Days that only a calendar can tell, the rule for the two day fields, rates and delays, and the far future."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from scheduler.cron import parse
from scheduler.cron.schedule import _next_of_cron
from scheduler.errors import InvalidError, ScheduleError


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def days(expression: str, start: str, count: int) -> list[str]:
    after = utc(start)
    instants = parse(expression).between(after, after + timedelta(days=366 * 50), limit=count)
    return [f"{instant:%Y-%m-%d}" for instant in instants]


def test_the_29th_of_february_comes_in_leap_years_only() -> None:
    assert days("0 0 29 2 *", "2026-11-01", 2) == ["2028-02-29", "2032-02-29"]
    assert days("0 0 29 2 *", "2096-02-29", 2) == ["2104-02-29", "2108-02-29"]  # 2100 is no leap year
    assert days("0 0 29 2 *", "1996-02-29", 1) == ["2000-02-29"]  # 2000 is one
    assert days("0 0 28,29 2 *", "2027-03-01", 3) == ["2028-02-28", "2028-02-29", "2029-02-28"]


def test_a_fifth_monday_of_february_is_found_across_forty_years() -> None:
    assert days("0 0 * 2 mon#5", "2072-02-29", 1) == ["2112-02-29"]


def test_the_last_day_of_the_month_knows_its_length() -> None:
    assert days("0 0 L * *", "2026-12-31", 4) == ["2027-01-31", "2027-02-28", "2027-03-31", "2027-04-30"]
    assert days("0 0 L 2 *", "2027-03-01", 2) == ["2028-02-29", "2029-02-28"]
    assert days("0 0 15,L 4 *", "2027-01-01", 2) == ["2027-04-15", "2027-04-30"]
    assert days("0 0 2-31,L * *", "2026-11-30", 2) == ["2026-12-02", "2026-12-03"]  # not the 1st


def test_the_31st_skips_the_shorter_months() -> None:
    assert days("0 0 31 * *", "2027-01-01", 4) == ["2027-01-31", "2027-03-31", "2027-05-31", "2027-07-31"]
    assert days("0 0 30 1-3 *", "2027-01-30", 2) == ["2027-03-30", "2028-01-30"]


def test_an_nth_weekday_is_counted_within_its_month() -> None:
    assert days("0 0 * * fri#2", "2026-11-01", 3) == ["2026-11-13", "2026-12-11", "2027-01-08"]
    assert days("0 0 * * 1#1,1#3", "2026-11-01", 3) == ["2026-11-02", "2026-11-16", "2026-12-07"]
    assert days("0 0 * * sun#5", "2026-11-01", 2) == ["2026-11-29", "2027-01-31"]
    assert days("0 0 * * 7#1", "2026-11-01", 1) == ["2026-12-06"]
    assert days("0 0 * * L5", "2026-11-01", 2) == ["2026-11-27", "2026-12-25"]


def test_plain_and_nth_weekdays_may_be_mixed() -> None:
    assert days("0 0 * * wed,fri#1", "2026-11-01", 3) == ["2026-11-04", "2026-11-06", "2026-11-11"]


def test_the_weekday_nearest_to_a_day_stays_in_its_month() -> None:
    assert days("0 0 15W * *", "2026-11-01", 3) == ["2026-11-16", "2026-12-15", "2027-01-15"]
    assert days("0 0 1W 8 *", "2026-01-01", 1) == ["2026-08-03"]  # the 1st is a Saturday
    assert days("0 0 1W,LW * *", "2026-11-01", 3) == ["2026-11-02", "2026-11-30", "2026-12-01"]
    assert days("0 0 LW 1,5 *", "2026-11-01", 3) == ["2027-01-29", "2027-05-31", "2028-01-31"]


def test_either_day_field_may_match_when_neither_begins_with_a_star() -> None:
    assert days("0 0 13 * fri", "2026-11-01", 4) == ["2026-11-06", "2026-11-13", "2026-11-20", "2026-11-27"]
    assert days("0 0 10 * fri#1", "2026-11-01", 3) == ["2026-11-06", "2026-11-10", "2026-12-04"]
    assert days("0 0 15W * fri#1", "2026-11-01", 3) == ["2026-11-06", "2026-11-16", "2026-12-04"]
    assert days("0 0 31 2 mon", "2027-01-31", 2) == ["2027-02-01", "2027-02-08"]
    assert days("0 0 1-31 * mon", "2026-11-01", 2) == ["2026-11-02", "2026-11-03"]


def test_both_day_fields_must_match_when_one_begins_with_a_star() -> None:
    assert days("0 0 */2 * mon", "2026-11-01", 3) == ["2026-11-09", "2026-11-23", "2026-12-07"]
    assert days("0 0 13 * */5", "2026-11-01", 3) == ["2026-11-13", "2026-12-13", "2027-06-13"]
    assert days("0 0 1,*/10 * mon", "2026-11-01", 2) == ["2026-11-02", "2026-11-09"]
    assert days("0 0 */10,3 * tue", "2026-11-01", 2) == ["2026-11-03", "2026-12-01"]
    assert days("0 0 ? * mon", "2026-11-01", 2) == ["2026-11-02", "2026-11-09"]


def test_a_rate_counts_from_its_anchor() -> None:
    schedule = parse("@every 1h30m", "America/New_York")
    anchor = utc("2026-11-01T00:00")
    assert schedule.next(anchor, anchor=anchor) == utc("2026-11-01T01:30")
    assert schedule.next(utc("2026-11-01T01:29:59.999999"), anchor=anchor) == utc("2026-11-01T01:30")
    assert schedule.next(utc("2026-11-01T01:30"), anchor=anchor) == utc("2026-11-01T03:00")
    assert schedule.next(utc("2026-10-01T00:00"), anchor=anchor) == utc("2026-11-01T01:30")
    assert schedule.next(utc("2027-11-01T00:00"), anchor=anchor) == utc("2027-11-01T01:30")


def test_a_rate_of_milliseconds_does_not_drift() -> None:
    anchor = utc("2026-01-01T00:00")
    schedule = parse("@every 10ms")
    year_later = anchor + timedelta(days=365)
    assert schedule.next(year_later, anchor=anchor) == year_later + timedelta(milliseconds=10)
    instants = schedule.between(anchor, anchor + timedelta(milliseconds=35), anchor=anchor, limit=100)
    assert [instant.microsecond for instant in instants] == [10_000, 20_000, 30_000]


def test_a_rate_without_an_anchor_is_refused() -> None:
    with pytest.raises(ScheduleError, match="needs an anchor"):
        parse("@every 1h").next(utc("2026-01-01T00:00"))


def test_a_delay_counts_from_the_end_of_the_previous_run() -> None:
    schedule = parse("@after 30s")
    assert (schedule.kind, schedule.period) == ("after", timedelta(seconds=30))
    assert schedule.next(utc("2026-01-01T00:00:12.5")) == utc("2026-01-01T00:00:42.5")


def test_between_leaves_out_its_start_and_keeps_its_end() -> None:
    schedule = parse("0 * * * *")
    after, until = utc("2026-01-01T01:00"), utc("2026-01-01T03:00")
    assert schedule.between(after, until, limit=10) == [utc("2026-01-01T02:00"), until]
    assert schedule.between(after, until, limit=1) == [utc("2026-01-01T02:00")]
    assert schedule.between(after, until, limit=0) == []
    assert schedule.between(until, after, limit=10) == []


def test_an_instant_between_two_minutes_is_no_reason_to_skip_one() -> None:
    assert parse("* * * * *").next(utc("2026-01-01T00:00:59.999999")) == utc("2026-01-01T00:01")
    assert parse("* * * * * *").next(utc("2026-01-01T00:00:59.999999")) == utc("2026-01-01T00:01")
    assert parse("* * * * * *").next(utc("2026-01-01T00:00:00")) == utc("2026-01-01T00:00:01")


def test_the_answer_is_in_utc_whatever_zone_the_question_came_in() -> None:
    east = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=9)))
    instant = parse("0 4 * * *").next(east)
    assert instant == utc("2026-01-01T04:00")
    assert instant.tzinfo is UTC


def test_a_naive_instant_is_refused() -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001  the point of the test
    with pytest.raises(InvalidError, match="no time zone"):
        parse("0 4 * * *").next(naive)


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "America/New_York"])
@pytest.mark.parametrize("expression", ["0 0 1 1 *", "* * * * * *", "@after 36500d", "0 0 29 2 *"])
def test_nothing_is_left_at_the_end_of_time(zone: str, expression: str) -> None:
    assert parse(expression, zone).next(datetime.max.replace(tzinfo=UTC)) is None


def test_a_rate_ends_with_time_too() -> None:
    anchor = utc("2026-01-01T00:00")
    assert parse("@every 36500d").next(utc("9990-01-01T00:00"), anchor=anchor) is None


def test_results_are_remembered_in_a_bounded_cache() -> None:
    schedule, after = parse("17 4 * * *", "Europe/Paris"), utc("2031-05-05T00:00")
    schedule.next(after)
    hits = _next_of_cron.cache_info().hits
    assert parse("17 4 * * *", "Europe/Paris").next(after) == schedule.next(after)
    assert _next_of_cron.cache_info().hits == hits + 2
    assert _next_of_cron.cache_info().maxsize is not None
