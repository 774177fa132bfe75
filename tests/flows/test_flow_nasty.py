"""Values that are hard to keep go round without a silent loss: what does not arrive as it was is in the story."""

from __future__ import annotations

from datetime import timedelta

import pytest
from support.household import RULES, Crm, Household, KirimPlatform

from crmsync.core.canonical import storable, text
from crmsync.flows.explain import FieldStory, explain
from crmsync.store.database import Database
from crmsync.testing.memory import Respelling

NASTY = {
    "family": "👨‍👩‍👧‍👦 Keluarga Ana",
    "flag": "🇮🇩",
    "skin": "👍🏽",
    "right to left": "مرحبا بالعالم",
    "mixed directions": "Ana \u202eمرحبا\u202c Lee",
    "decomposed": "Zoe\u0308",
    "zero width": "A\u200bna",
    "NUL": "An\0a",
    "half a character": "An\ud83da",
    "ten thousand": "x" * 10_000,
    "ten thousand emoji": "😀" * 10_000,
    "leading zeros": "00123",
    "looks like a number": "1e5",
    "looks like true": "true",
    "looks like null": "null",
    "markup": "<b>&amp;</b>",
    "formula": "=1+1",
    "quotes": "\"'`;--",
    "line ends": "one\r\ntwo\u2028three",
    "private use": "\ue000",
    "astral": "𐍈",
}


def story(home: Household, id: str, field: str) -> FieldStory:
    (told,) = home.database.read(lambda tx: explain(tx, "acme", id, {"crm": RULES}, field))
    return told.fields[0]


@pytest.fixture
def home(sqlite_url: str) -> Household:
    crm = Crm(spelling=Respelling(trim=True))
    kirim = KirimPlatform()
    crm.hooks_say_values = kirim.hooks_say_values = False  # halves of characters cannot be said in a delivery
    return Household(Database.open(sqlite_url), crms={"crm": crm}, kirim=kirim)


@pytest.mark.parametrize("name", NASTY)
def test_a_nasty_text_goes_both_ways_and_what_is_left_out_is_told(home: Household, name: str) -> None:
    value = NASTY[name]
    id = home.add(name="before", company=value)
    home.settle()
    home.clock.advance(timedelta(seconds=1))
    home.crm.edit(str(home.row(id).crm_id), {"name": value})
    home.settle()

    for field, source, arrived in (
        ("company", home.kirim.held(id)["company"], home.partner(id).fields["company"]),
        ("name", home.partner(id).fields["name"], home.kirim.held(id)["name"]),
    ):
        assert source == value  # nobody's own value is touched
        kept = storable({"": value})[""]
        assert text(arrived) == text(kept)
        told = [entry for entry in story(home, id, field).entries if entry.outcome == "cleaned"]
        assert bool(told) is (kept != value)
        if told:
            assert "NUL characters and halves of characters" in told[-1].sentence
    before = home.writes()
    home.look_again()
    home.settle()
    assert home.writes() == before
    home.database.close()


def test_what_a_platform_cuts_is_told_and_not_taken_for_a_change(sqlite_url: str) -> None:
    home = Household(Database.open(sqlite_url), crms={"crm": Crm(spelling=Respelling(cut_at=255))})
    id = home.add(company="x" * 10_000)
    home.settle()

    assert home.kirim.held(id)["company"] == "x" * 10_000
    assert "keeps another value" in story(home, id, "company").entries[-1].sentence
    home.database.close()
