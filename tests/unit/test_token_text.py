"""Tokens as texts: how they look, how a mistyped one is told from a real one, what scanners find."""

from __future__ import annotations

import hashlib
import random
import re
import string
from pathlib import Path

import pytest

from scheduler.tokens import PATTERN, SCOPES, digest, implied, looks_right, new_token

ROOT = Path(__file__).parents[2]
ALPHABET = string.ascii_letters + string.digits


def test_a_token_is_a_prefix_and_49_letters_and_digits_and_never_the_same_twice() -> None:
    made = {new_token() for _ in range(1_000)}
    assert len(made) == 1_000
    assert all(re.fullmatch("sched_[0-9A-Za-z]{49}", token) and looks_right(token) for token in made)


def test_no_letter_of_the_random_part_is_more_likely_than_chance_allows() -> None:
    # The first digit of 32 bytes in base62 is not even, by the size of the number; the others are.
    letters = "".join(new_token()[7:49] for _ in range(1_000))
    counts = [letters.count(letter) for letter in ALPHABET]
    assert 520 < min(counts) <= max(counts) < 840, "677 on average, and 26 is the deviation"


def test_one_wrong_letter_is_always_noticed_and_so_are_two_that_changed_places() -> None:
    chance = random.Random(7)
    token = new_token()
    for place in range(6, 55):
        wrong = chance.choice([letter for letter in ALPHABET if letter != token[place]])
        assert not looks_right(token[:place] + wrong + token[place + 1 :])
    for place in range(6, 54):
        if token[place] != token[place + 1]:
            assert not looks_right(token[:place] + token[place + 1] + token[place] + token[place + 2 :])


@pytest.mark.parametrize("text", ["", "sched_", "ghp_" + "a" * 51, "sched_" + "é" * 49, "sched_" + "a" * 49, "\ud800"])
def test_what_is_no_token_is_told_without_an_error(text: str) -> None:
    assert not looks_right(text)
    assert not looks_right(new_token() + text[:1] + "\n")


def test_the_digest_is_plain_sha_256_so_that_other_programs_can_make_it() -> None:
    token = new_token()
    assert digest(token) == hashlib.sha256(token.encode("ascii")).digest()


def test_write_reads_and_admin_does_everything_but_work_is_only_work() -> None:
    assert implied(["write"]) == {"write", "read"}
    assert implied(["admin"]) == set(SCOPES)
    assert implied(["work"]) == {"work"}
    assert implied(["read", "work"]) == {"read", "work"}


def test_the_published_pattern_finds_tokens_in_a_text_and_nothing_else() -> None:
    token = new_token()
    text = f"""curl -H "Authorization: Bearer {token}" https://host/  sched_run_added sched_{"a" * 50}"""
    assert re.findall(PATTERN, text) == [token]
