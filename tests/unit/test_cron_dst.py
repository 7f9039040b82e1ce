"""What fires when the clocks jump: every zone that jumps in a way of its own, both directions, every choice."""

from datetime import UTC, datetime, timedelta

import pytest

from scheduler.cron import parse


def fired(zone: str, expression: str, start: str, hours: int, *, gap: str = "after", fold: str = "first") -> list[str]:
    after = datetime.fromisoformat(start).replace(tzinfo=UTC)
    schedule = parse(expression, zone, dst_gap=gap, dst_fold=fold)
    instants = schedule.between(after, after + timedelta(hours=hours), limit=1_000)
    return [f"{instant:%d %H:%M}" for instant in instants]


# zone, expression, a start some hours before the gap (UTC), hours looked at, fired with `after`, fired with `skip`
GAPS = [
    # 2026-03-08 02:00 EST becomes 03:00 EDT at 07:00Z
    ("America/New_York", "30 2 * * *", "2026-03-07 12:00", 48, ["08 07:00", "09 06:30"], ["09 06:30"]),
    ("America/New_York", "0,20,40 2 * * *", "2026-03-08 00:00", 24, ["08 07:00"], []),
    ("America/New_York", "30 1,2 * * *", "2026-03-08 06:00", 9, ["08 06:30", "08 07:00"], ["08 06:30"]),
    ("America/New_York", "0 2,3 * * *", "2026-03-08 00:00", 24, ["08 07:00"], ["08 07:00"]),
    # 2026-03-29 01:00 GMT becomes 02:00 BST at 01:00Z
    ("Europe/London", "15 1 * * *", "2026-03-28 12:00", 48, ["29 01:00", "30 00:15"], ["30 00:15"]),
    # 2026-10-04 02:00 becomes 02:30, at 15:30Z the day before: half an hour
    ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03 00:00", 48, ["03 15:30", "04 15:15"], ["04 15:15"]),
    ("Australia/Lord_Howe", "45 2 * * *", "2026-10-03 00:00", 24, ["03 15:45"], ["03 15:45"]),
    # 2018-11-04 00:00 becomes 01:00 at 03:00Z: the day has no midnight
    ("America/Sao_Paulo", "0 0 * * *", "2018-11-03 12:00", 48, ["04 03:00", "05 02:00"], ["05 02:00"]),
    ("America/Sao_Paulo", "@daily", "2018-11-03 12:00", 48, ["04 03:00", "05 02:00"], ["05 02:00"]),
    # 2024-04-26 00:00 becomes 01:00 at 22:00Z the day before
    ("Africa/Cairo", "30 0 * * *", "2024-04-25 12:00", 48, ["25 22:00", "26 21:30"], ["26 21:30"]),
    # 2024-04-14 02:00 becomes 03:00 at 02:00Z: the end of Ramadan, when the negative DST ends
    ("Africa/Casablanca", "30 2 * * *", "2024-04-13 12:00", 48, ["14 02:00", "15 01:30"], ["15 01:30"]),
    # 2011-12-29 24:00 becomes 2011-12-31 00:00 at 10:00Z on the 30th: a day that never was
    ("Pacific/Apia", "0 12 * * *", "2011-12-29 23:00", 24, ["30 10:00", "30 22:00"], ["30 22:00"]),
    ("Pacific/Apia", "0 6 30 12 *", "2011-12-29 12:00", 48, ["30 10:00"], []),
    # 1986-01-01 00:00 became 00:15 at 18:30Z the day before, and nothing has jumped since
    ("Asia/Kathmandu", "5 0 * * *", "1985-12-31 00:00", 48, ["31 18:30", "01 18:20"], ["01 18:20"]),
    ("Asia/Kathmandu", "30 2 * * *", "2026-03-08 00:00", 24, ["08 20:45"], ["08 20:45"]),
    # 2026-03-29 01:00 becomes 03:00 at 01:00Z: two hours
    ("Antarctica/Troll", "0 1,2 * * *", "2026-03-28 12:00", 35, ["29 01:00", "29 23:00"], ["29 23:00"]),
]  # fmt: skip

# zone, expression, a start some hours before the fold (UTC), hours looked at, fired with `first` and with `second`
FOLDS = [
    # 2026-11-01 02:00 EDT becomes 01:00 EST at 06:00Z
    ("America/New_York", "30 1 * * *", "2026-10-31 12:00", 48, ["01 05:30", "02 06:30"], ["01 06:30", "02 06:30"]),
    ("America/New_York", "0,30 1 * * *", "2026-11-01 00:00", 24, ["01 05:00", "01 05:30"], ["01 06:00", "01 06:30"]),
    ("America/New_York", "0 0,2 * * *", "2026-11-01 00:00", 24, ["01 04:00", "01 07:00"], ["01 04:00", "01 07:00"]),
    # 2026-10-25 02:00 BST becomes 01:00 GMT at 01:00Z
    ("Europe/London", "30 1 * * *", "2026-10-24 12:00", 24, ["25 00:30"], ["25 01:30"]),
    # 2026-04-05 02:00 becomes 01:30, at 15:00Z the day before
    ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04 00:00", 24, ["04 14:45"], ["04 15:15"]),
    ("Australia/Lord_Howe", "15 1 * * *", "2026-04-04 00:00", 24, ["04 14:15"], ["04 14:15"]),
    # 2018-02-18 00:00 becomes 23:00 of the 17th, at 02:00Z
    ("America/Sao_Paulo", "30 23 17 * *", "2018-02-17 12:00", 48, ["18 01:30"], ["18 02:30"]),
    ("America/Sao_Paulo", "0 0 * * *", "2018-02-17 12:00", 24, ["18 03:00"], ["18 03:00"]),
    # 2024-10-31 24:00 becomes 23:00 at 21:00Z
    ("Africa/Cairo", "30 23 * * *", "2024-10-31 12:00", 24, ["31 20:30"], ["31 21:30"]),
    # 2024-03-10 03:00 becomes 02:00 at 02:00Z: Ramadan, negative DST
    ("Africa/Casablanca", "30 2 * * *", "2024-03-09 12:00", 48, ["10 01:30", "11 02:30"], ["10 02:30", "11 02:30"]),
    # 2012-04-01 04:00 becomes 03:00, at 14:00Z the day before
    ("Pacific/Apia", "30 3 * * *", "2012-03-31 00:00", 24, ["31 13:30"], ["31 14:30"]),
    # 2026-10-25 03:00 becomes 01:00 at 01:00Z
    ("Antarctica/Troll", "30 1,2 * * *", "2026-10-24 12:00", 24, ["24 23:30", "25 00:30"], ["25 01:30", "25 02:30"]),
    ("Asia/Kathmandu", "30 1 * * *", "2026-11-01 00:00", 24, ["01 19:45"], ["01 19:45"]),
]  # fmt: skip

# zone, expression, start, hours looked at, fired: the same under every choice
WILDCARDS = [
    ("America/New_York", "*/30 * * * *", "2026-03-08 06:00", 2, ["08 06:30", "08 07:00", "08 07:30", "08 08:00"]),
    ("America/New_York", "*/30 * * * *", "2026-11-01 05:00", 2, ["01 05:30", "01 06:00", "01 06:30", "01 07:00"]),
    ("America/New_York", "*/30 2 * * *", "2026-03-08 00:00", 24, []),
    ("America/New_York", "*/30 1 * * *", "2026-11-01 00:00", 24, ["01 05:00", "01 05:30", "01 06:00", "01 06:30"]),
    ("America/New_York", "0 */2 * * *", "2026-03-08 04:00", 7, ["08 05:00", "08 08:00", "08 10:00"]),
    ("Europe/London", "@hourly", "2026-10-24 23:30", 3, ["25 00:00", "25 01:00", "25 02:00"]),
    ("Europe/London", "@hourly", "2026-03-29 00:00", 3, ["29 01:00", "29 02:00", "29 03:00"]),
    ("Australia/Lord_Howe", "*/30 * * * *", "2026-10-03 15:00", 1, ["03 15:30", "03 16:00"]),
    ("Australia/Lord_Howe", "*/30 * * * *", "2026-04-04 14:00", 2, ["04 14:30", "04 15:00", "04 15:30", "04 16:00"]),
    ("Australia/Lord_Howe", "0 * * * *", "2026-10-03 14:00", 3, ["03 14:30", "03 16:00", "03 17:00"]),
    ("America/Sao_Paulo", "15 * * * *", "2018-11-04 02:00", 2, ["04 02:15", "04 03:15"]),
    ("America/Sao_Paulo", "15 * * * *", "2018-02-18 01:00", 3, ["18 01:15", "18 02:15", "18 03:15"]),
    ("Africa/Cairo", "0 * * * *", "2024-04-25 20:30", 3, ["25 21:00", "25 22:00", "25 23:00"]),
    ("Africa/Cairo", "0 * * * *", "2024-10-31 19:30", 3, ["31 20:00", "31 21:00", "31 22:00"]),
    ("Africa/Casablanca", "*/30 * * * *", "2024-03-10 01:00", 2, ["10 01:30", "10 02:00", "10 02:30", "10 03:00"]),
    ("Africa/Casablanca", "*/30 * * * *", "2024-04-14 01:00", 2, ["14 01:30", "14 02:00", "14 02:30", "14 03:00"]),
    ("Pacific/Apia", "0 * * * *", "2011-12-30 08:30", 3, ["30 09:00", "30 10:00", "30 11:00"]),
    ("Pacific/Apia", "*/30 * 30 12 *", "2011-12-29 10:00", 48, []),
    ("Asia/Kathmandu", "0 * * * *", "2026-01-01 00:00", 2, ["01 00:15", "01 01:15"]),
    ("Antarctica/Troll", "0 * * * *", "2026-03-28 23:30", 3, ["29 00:00", "29 01:00", "29 02:00"]),
    ("Antarctica/Troll", "0 * * * *", "2026-10-24 23:30", 3, ["25 00:00", "25 01:00", "25 02:00"]),
]  # fmt: skip


@pytest.mark.parametrize(("zone", "expression", "start", "hours", "after", "skip"), GAPS)
def test_a_fixed_time_inside_a_gap_runs_right_after_it_or_not_at_all(
    *, zone: str, expression: str, start: str, hours: int, after: list[str], skip: list[str]
) -> None:
    assert fired(zone, expression, start, hours, gap="after") == after
    assert fired(zone, expression, start, hours, gap="skip") == skip


@pytest.mark.parametrize(("zone", "expression", "start", "hours", "first", "second"), FOLDS)
def test_a_fixed_time_inside_a_fold_runs_on_the_chosen_pass(
    *, zone: str, expression: str, start: str, hours: int, first: list[str], second: list[str]
) -> None:
    assert fired(zone, expression, start, hours, fold="first") == first
    assert fired(zone, expression, start, hours, fold="second") == second
    assert fired(zone, expression, start, hours, fold="both") == sorted({*first, *second})


@pytest.mark.parametrize(("zone", "expression", "start", "hours", "expected"), WILDCARDS)
@pytest.mark.parametrize("gap", ["after", "skip"])
@pytest.mark.parametrize("fold", ["first", "second", "both"])
def test_a_wildcard_job_follows_elapsed_time_whatever_was_chosen(
    *, zone: str, expression: str, start: str, hours: int, expected: list[str], gap: str, fold: str
) -> None:
    assert fired(zone, expression, start, hours, gap=gap, fold=fold) == expected


@pytest.mark.parametrize(
    ("zone", "start"), [("America/New_York", "2026-11-01 03:00"), ("America/New_York", "2026-03-08 03:00")]
)
def test_a_job_of_every_minute_never_pauses(zone: str, start: str) -> None:
    after = datetime.fromisoformat(start).replace(tzinfo=UTC)
    expected = [after + timedelta(minutes=minute) for minute in range(1, 361)]
    assert parse("* * * * *", zone).between(after, after + timedelta(hours=6), limit=1_000) == expected


def test_a_fixed_time_with_every_second_runs_once_for_a_gap() -> None:
    assert fired("America/New_York", "* 30 2 * * *", "2026-03-08 00:00", 24) == ["08 07:00"]


def test_a_fixed_time_with_every_second_runs_one_pass_of_a_fold() -> None:
    assert fired("America/New_York", "*/20 30 1 * * *", "2026-11-01 00:00", 24) == ["01 05:30"] * 3


def test_a_wildcard_minute_behind_a_seconds_field_is_still_a_wildcard() -> None:
    expected = ["01 05:00", "01 05:30", "01 06:00", "01 06:30"]
    assert fired("America/New_York", "0 */30 1 * * *", "2026-11-01 00:00", 24) == expected


@pytest.mark.parametrize("fold", ["first", "second", "both"])
def test_a_search_may_begin_inside_a_fold(fold: str) -> None:
    # Begins at 01:40 EDT, 20 minutes before the jump; 01:50 comes at 05:50Z and again at 06:50Z.
    expected = {"first": ["01 05:50"], "second": ["01 06:20", "01 06:50"], "both": ["01 05:50", "01 06:20", "01 06:50"]}
    assert fired("America/New_York", "20,50 1 * * *", "2026-11-01 05:40", 12, fold=fold) == expected[fold]


def test_a_zone_in_front_of_the_expression_wins() -> None:
    expected = ["08 07:00"]
    assert fired("Europe/London", "CRON_TZ=America/New_York 30 2 * * *", "2026-03-08 00:00", 24) == expected
    assert fired("Europe/London", "TZ=America/New_York 30 2 * * *", "2026-03-08 00:00", 24) == expected
