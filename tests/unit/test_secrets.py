"""`${secret:NAME}` in specs: where it may stand, where its value is seen, and where it is not."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.calls import Log, call
from worker.executors import ExecutionFailed
from worker.outcome import storable
from worker.secrets import MOST, Hidden, value_of
from worker.store import Report

TOKEN = 's3cr3t/tok&n"ü'


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A worker with a secret in its environment and a folder of more."""
    monkeypatch.setenv("SCHEDULER_SECRET_API_TOKEN", TOKEN)
    monkeypatch.setenv("SCHEDULER_SECRETS_DIR", str(tmp_path))
    (tmp_path / "tls.key").write_text("-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nshort\n-----END KEY-----\n")
    (tmp_path / "pin").write_text("482913\r\n")
    (tmp_path / "api-token").write_text("not this one: the variable comes first")
    return tmp_path


def filled(spec: Any, places: tuple[str, ...] | None = None, hidden: Hidden | None = None, log: Any = None) -> Any:
    return (hidden or Hidden()).filled(call(spec, write=log or Log()), places).spec


def failure(spec: Any, places: tuple[str, ...] | None = None) -> str:
    with pytest.raises(ExecutionFailed) as caught:
        filled(spec, places)
    assert caught.value.outcome.final  # type: ignore[union-attr]
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_values_are_put_in_wherever_a_string_names_them() -> None:
    spec = {"url": "https://x/?t=${secret:pin}", "headers": {"A": "Bearer ${secret:api-token}"}, "n": 1,
            "json": [{"both": "${secret:pin}-${secret:pin}", "plain": "$${secret:pin} ${HOME} ${x:y}"}]}  # fmt: skip
    assert filled(spec) == {
        "url": "https://x/?t=482913",
        "headers": {"A": f"Bearer {TOKEN}"},
        "n": 1,
        "json": [{"both": "482913-482913", "plain": "${secret:pin} ${HOME} ${x:y}"}],
    }
    assert spec["url"] == "https://x/?t=${secret:pin}"  # the row's own is not touched


def test_a_value_is_read_anew_for_each_attempt(known: Path) -> None:
    assert value_of("pin") == "482913"
    (known / "pin").write_text("555555")
    assert value_of("pin") == "555555"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${secret:none}", "no secret 'none': this worker has neither SCHEDULER_SECRET_NONE nor a file none in "),
        ("${secret:}", "needs a name of letters"),
        ("${secret:../pin}", "needs a name of letters"),
        ("${secret:..}", "needs a name of letters"),
        ("${secret:.hidden}", "needs a name of letters"),
        ("${secret:pin", "needs a name of letters"),
        ("${secret:a b}", "needs a name of letters"),
        ("${secret:" + "x" * 64 + "}", "needs a name of letters"),
        ("${secret:empty}", "secret 'empty' cannot be used: it must be text of 4 to"),
        ("${secret:tiny}", "secret 'tiny' cannot be used"),
        ("${secret:huge}", "secret 'huge' cannot be used"),
        ("${secret:binary}", "secret 'binary' cannot be used: its file is not UTF-8"),
        ("${secret:nul}", "secret 'nul' cannot be used"),
        ("${secret:folder}", "secret 'folder' cannot be read: Is a directory"),
    ],
)
def test_what_cannot_be_put_in_fails_for_good_in_a_line(known: Path, text: str, said: str) -> None:
    (known / "empty").write_text("\n")
    (known / "tiny").write_text("abc")
    (known / "huge").write_text("x" * (MOST + 1))
    (known / "binary").write_bytes(b"\xff\xfe\xfd\xfc\xfb")
    (known / "nul").write_bytes(b"abc\0def")
    (known / "folder").mkdir()
    assert said in failure({"x": [text]})


def test_a_missing_one_says_that_there_is_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCHEDULER_SECRETS_DIR")
    assert failure({"x": "${secret:my.key-1}"}) == (
        "no secret 'my.key-1': this worker has neither SCHEDULER_SECRET_MY_KEY_1 nor a SCHEDULER_SECRETS_DIR"
    )


def test_a_name_is_no_place_for_a_secret() -> None:
    assert "a secret cannot be a name" in failure({"headers": {"X-${secret:pin}": "x"}})


def test_an_executor_says_where_it_takes_them() -> None:
    places = ("environment", "stdin")
    assert filled({"command": "echo ${secret:0:4} ${secret:$n}", "stdin": "${secret:pin}"}, places) == {
        "command": "echo ${secret:0:4} ${secret:$n}",  # the shell's own: a part of its variable `secret`
        "stdin": "482913",
    }
    for command in ("curl -H 'A: ${secret:pin}' x", ["curl", "${secret:pin}"]):
        assert failure({"command": command}, places) == (
            'bad spec: ${secret:pin} cannot be in "command", only in "environment" and "stdin"'
        )


def seen(hidden: Hidden, result: Any = None, error: str | None = None) -> tuple[Any, str | None]:
    report = hidden.report(Report(7, "failed", 0.0, 0.0, error=error, result=storable(result)))
    return (None if report.result is None else json.loads(report.result)), report.error


def test_a_value_is_hidden_in_results_and_errors_in_all_its_forms() -> None:
    hidden = Hidden()
    filled({"x": "${secret:api-token} ${secret:pin} ${secret:tls.key}"}, hidden=hidden)
    result, error = seen(
        hidden,
        {
            "body": f"you sent {TOKEN}!",
            "json": json.dumps({"t": TOKEN}),
            "ascii": json.dumps({"t": TOKEN}, ensure_ascii=True),
            "url": "https://x/?t=s3cr3t%2Ftok%26n%22%C3%BC",
            TOKEN: [482913, 4829130, "482913"],
            "line": "MIIEvQIBADANBgkq",
            "short": "short",
            "none": None,
            "yes": True,
        },
        f"GET https://x/{TOKEN}: answered 500",
    )
    assert result == {
        "body": "you sent ***!",
        "json": '{"t": "***"}',
        "ascii": '{"t": "***"}',
        "url": "https://x/?t=***",
        "***": ["***", 4829130, "***"],
        "line": "***",
        "short": "short",
        "none": None,
        "yes": True,
    }
    assert error == "GET https://x/***: answered 500"


@pytest.mark.parametrize("at", range(6, len(TOKEN)))
def test_a_piece_of_a_value_at_a_cut_is_hidden(at: int) -> None:
    hidden = Hidden()
    filled({"x": "${secret:api-token}"}, hidden=hidden)
    head, tail = TOKEN[:at], TOKEN[-at:]
    assert seen(hidden, f"x {head}\n… 10 bytes cut …\n{tail} y {head}")[0] == "x ***\n… 10 bytes cut …\n*** y ***"
    assert seen(hidden, error=f"last line: {head}")[1] == "last line: ***"


@pytest.mark.parametrize("size", range(1, 9))
def test_output_that_comes_in_pieces_is_hidden_and_complete(size: int) -> None:
    hidden, log = Hidden(), Log()
    made = hidden.filled(call({"x": "${secret:api-token}${secret:pin}"}, write=log))
    text = f"a{TOKEN}b 48291 s3cr3t {TOKEN}{TOKEN} 482913482913 s3cr3t/to"
    for i in range(0, len(text), size):
        made.log("stdout", text[i : i + size])
    hidden.close()
    assert log.of("stdout") == "a***b 48291 s3cr3t ****** ****** ***"


def test_lines_of_a_task_are_not_held_back() -> None:
    hidden, log = Hidden(), Log()
    made = hidden.filled(call({"x": "${secret:api-token}"}, write=log))
    made.log("task", "ends with s3c")
    made.log("task", f"says {TOKEN}")
    assert log == [("task", "ends with s3c"), ("task", "says ***")]


def test_a_long_secret_and_much_output_take_little_time(known: Path) -> None:
    (known / "long").write_text("ab" * (MOST // 2))
    hidden, log = Hidden(), Log()
    made = hidden.filled(call({"x": "${secret:long}"}, write=log))
    begun = time.monotonic()
    for _ in range(20):
        made.log("stdout", "ba" * 20_000)
    hidden.close()
    assert time.monotonic() - begun < 10
    assert seen(hidden, "ab" * MOST)[0] == "***" * 2
