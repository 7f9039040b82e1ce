"""What is a schedule, what is not, and how the refusal reads."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from scheduler.cron import Schedule, parse, parse_duration
from scheduler.errors import ScheduleError

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)  # a Thursday


def upcoming(expression: str, count: int = 3) -> list[str]:
    instants = parse(expression).between(NEW_YEAR, NEW_YEAR + timedelta(days=1500), limit=count)
    return [instant.strftime("%Y-%m-%d %H:%M:%S") for instant in instants]


@pytest.mark.parametrize(
    ("expression", "twin"),
    [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@Hourly", "0 * * * *"),
        ("0 0 * * sun", "0 0 * * 7"),
        ("0 0 * JAN-mar Mon-FRI", "0 0 * 1-3 1-5"),
        ("0 0 * * sat-sun", "0 0 * * 0,6"),
        ("0 0 * * 5-7", "0 0 * * 0,5,6"),
        ("0 0 * * mon-sun", "0 0 * * *"),
        ("0 5-5 * * *", "0 5 * * *"),
        ("59/15 * * * *", "59 * * * *"),
        ("0 0 * * 7/2", "0 0 * * 0"),
        ("5/20 * * * *", "5,25,45 * * * *"),
        ("10-30/10,50 3 * * *", "10,20,30,50 3 * * *"),
        ("*/90 * * * *", "0 * * * *"),
        ("0 0 ? * mon", "0 0 * * 1"),
        ("? 3 1 * ?", "* 3 1 * *"),
        ("  0\t0  1 * *\n", "0 0 1 * *"),
        ("0 0 0 * * *", "0 0 * * *"),
        ("0 0 * * 5L", "0 0 * * L5"),
        ("0 0 * * friL", "0 0 * * L5"),
        ("0 0 l * *", "0 0 L * *"),
    ],
)
def test_two_spellings_mean_the_same(expression: str, twin: str) -> None:
    assert upcoming(expression, 40) == upcoming(twin, 40)


def test_six_fields_have_their_seconds_first() -> None:
    assert upcoming("*/20 * * * * *") == ["2026-01-01 00:00:20", "2026-01-01 00:00:40", "2026-01-01 00:01:00"]
    assert upcoming("5 0 3 * * *", 2) == ["2026-01-01 03:00:05", "2026-01-02 03:00:05"]
    assert upcoming("30 15 10 1 6 ?", 1) == ["2026-06-01 10:15:30"]


REFUSED = [
    ("", "empty"),
    (" \t\n", "empty"),
    ("x", "5 fields"),
    ("* * * *", "not 4"),
    ("0 0 1 1 * * 2030", "not 7"),
    ("60 * * * *", "minute field"),
    ("60 * * * * *", "second field"),
    ("0 24 * * *", "hour field"),
    ("0 0 0 * *", "day-of-month field"),
    ("0 0 32 * *", "day-of-month field"),
    ("0 0 * 0 *", "month field"),
    ("0 0 * 13 *", "month field"),
    ("0 0 * * 8", "day-of-week field"),
    ("0 0 * january *", "jan-dec"),
    ("0 0 * * monday", "sun-sat"),
    ("0 0 * * jan", "day-of-week field"),
    ("-1 * * * *", "minute field"),
    ("1.5 * * * *", "minute field"),
    ("1,,2 * * * *", "empty item"),
    (", * * * *", "empty item"),
    ("1- * * * *", "minute field"),
    ("1-2-3 * * * *", "minute field"),
    ("*-5 * * * *", "minute field"),
    ("5-1 * * * *", "write 5-59,0-1"),
    ("0 22-2 * * *", "write 22-23,0-2"),
    ("*/0 * * * *", "above 0"),
    ("*/-5 * * * *", "minute field"),
    ("*/ * * * *", "minute field"),
    ("*/x * * * *", "the step 'x'"),
    ("** * * * *", "minute field"),
    ("*5 * * * *", "minute field"),
    ("?/5 * * * *", "stands alone"),
    ("L * * * *", "minute field"),
    ("0 0 * * L", "day-of-week field"),
    ("0 0 L-3 * *", "day-of-month field"),
    ("0 0 1#2 * *", "day-of-month field"),
    ("0 0 * * 1#0", "1 to 5"),
    ("0 0 * * 1#6", "1 to 5"),
    ("0 0 * * 1#", "1 to 5"),
    ("0 0 * * #2", "1 to 5"),
    ("0 0 * * 9#2", "day-of-week field"),
    ("0 0 29W * *", "LW"),
    ("0 0 0W * *", "day-of-month field"),
    ("H * * * *", "jitter"),
    ("H(0-29)/10 * * * *", "jitter"),
    ("R 3 * * *", "jitter"),
    ("0~30 * * * *", "jitter"),
    ("0 0 30 2 *", "never fire"),
    ("0 0 31 2 *", "never fire"),
    ("0 0 31 4,6,9,11 *", "never fire"),
    ("0 0 */3 2 mon#5", "never fire"),
    ("@reboot", "no one reboot"),
    ("@fortnightly", "@weekly"),
    ("@", "unknown"),
    ("@every", "empty"),
    ("@every1h", "unknown"),
    ("@every 5ms", "at least 10ms"),
    ("@every 0s", "longer than nothing"),
    ("@every -1h", "positive"),
    ("@every 1h 30m", "1h30m"),
    ("@every 5", "no unit"),
    ("@after soon", "no number"),
    ("TZ=Mars/Olympus 0 0 * * *", "Mars/Olympus"),
    ("CRON_TZ=Europe/Pariss 0 0 * * *", "did you mean Europe/Paris?"),
    ("TZ= 0 0 * * *", "time zone ''"),
    ("TZ=UTC", "5 fields"),
    ("TZ=../../etc/passwd 0 0 * * *", "unknown"),
    ("TZ=America 0 0 * * *", "unknown"),
    ("0 0 * * *\n0 0 * * *", "character 10"),
    ("\x00 * * * *", "character 1"),
    ("0 0 * * *\x00", "character 10"),
    ("\u0660 0 * * *", "character 1"),
    ("0\u00a00 * * *", "character 2"),
    ("9" * 900 + " * * * *", "minute field"),
    ("1," * 5_000_000 + "1 * * * *", "characters"),
    ("0 0 * * *" + " " * 10_000_000, "characters"),
]


@pytest.mark.parametrize(("expression", "says"), REFUSED, ids=[expression[:20] for expression, _ in REFUSED])
def test_a_bad_schedule_is_refused_in_one_line_that_says_why(expression: str, says: str) -> None:
    started = time.process_time()
    with pytest.raises(ScheduleError) as refused:
        parse(expression)
    line = str(refused.value)
    assert says in line
    assert "\n" not in line
    assert len(line) < 400
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("zone", ["", "Mars", "utc+1", "America/", "/etc/localtime", "a\x00b", "x" * 1_000_000])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(ScheduleError, match=r"time zone .* is unknown"):
        parse("0 0 * * *", zone)


def test_an_unknown_dst_choice_is_refused() -> None:
    with pytest.raises(ScheduleError, match="one of after, skip"):
        parse("0 0 * * *", dst_gap="before")
    with pytest.raises(ScheduleError, match="one of first, second, both"):
        parse("0 0 * * *", dst_fold="last")


def test_a_schedule_that_is_no_text_is_refused() -> None:
    for value in (None, 5, b"0 0 * * *"):
        with pytest.raises(ScheduleError, match="a schedule is text"):
            parse(value)  # type: ignore[arg-type]


def test_equal_questions_give_equal_hashable_schedules() -> None:
    plain = parse("0 0  * * *", "Europe/Paris")
    assert plain == parse("CRON_TZ=Europe/Paris 0 0 * * *", "Asia/Tokyo")
    assert {plain: 1}[parse("0 0 * * *", "Europe/Paris")] == 1
    assert plain == Schedule("0 0 * * *", "Europe/Paris", "after", "first", "cron", None)
    assert plain != parse("0 0 * * *", "Europe/Paris", dst_gap="skip")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1h30m10s", timedelta(hours=1, minutes=30, seconds=10)),
        ("90s", timedelta(seconds=90)),
        ("500ms", timedelta(milliseconds=500)),
        ("250us", timedelta(microseconds=250)),
        ("1.5h", timedelta(minutes=90)),
        ("0.1s", timedelta(milliseconds=100)),
        ("2d", timedelta(days=2)),
        ("1d12h", timedelta(hours=36)),
        (" 5m ", timedelta(minutes=5)),
        ("36500d", timedelta(days=36_500)),
    ],
)
def test_a_duration_is_read_as_go_reads_it(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "0s",
        "-5s",
        "+5s",
        "5",
        "s",
        "h1",
        "1x",
        "1H",
        "1.s",
        ".5s",
        "1,5s",
        "1h 30m",
        "1e3s",
        "0.1us",
        "1ns",
        "36501d",
        "9" * 80 + "d",
        "1s" * 1_000_000,
        "\x00",
        "\u0661s",
    ],
)
def test_a_bad_duration_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ScheduleError) as refused:
        parse_duration(text)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300
