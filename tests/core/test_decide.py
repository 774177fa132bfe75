"""The table of ownership, row by row: what is written to whom, and what is deliberately left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crmsync.core.decide import Agreed, Decision, Noted, PairView, Side, Step, Why, decide, settle
from crmsync.core.lens import Assigned, Plain
from crmsync.core.mapping import FieldRule, OnDrift, Owner, Rules
from crmsync.model import FieldType, Kind, Value

K, C = Owner.KIRIM, Owner.CRM
NAME = FieldRule("name", "fullname", K)
ABSENT = object()


def rules(*fields: FieldRule) -> Rules:
    return Rules(Kind.CONTACT, fields, region="ID")


def pair(kirim: object, crm: object, base: tuple[Value, Value] | None = None, **noted: Noted) -> PairView:
    return PairView(
        {} if kirim is ABSENT else {"name": kirim},  # type: ignore[dict-item]
        {} if crm is ABSENT else {"fullname": crm},  # type: ignore[dict-item]
        {"name": Agreed(*base)} if base is not None else {},
        noted,
    )


def only(decision: Decision) -> Step:
    (step,) = decision.steps
    return step


def told(decision: Decision) -> tuple[Why, Side | None, Value] | None:
    """The one step of a decision in short; None for no step."""
    if not decision.steps:
        return None
    step = only(decision)
    return step.why, step.to, step.value


FIRST_SIGHT = [
    # owner, kirim, crm, expected
    (K, "Ana", "Ani", (Why.OWNER_AT_FIRST_SIGHT, Side.CRM, "Ana")),
    (C, "Ana", "Ani", (Why.OWNER_AT_FIRST_SIGHT, Side.KIRIM, "Ani")),
    (K, "Ana", None, (Why.OWNER_AT_FIRST_SIGHT, Side.CRM, "Ana")),
    (K, "Ana", "", (Why.OWNER_AT_FIRST_SIGHT, Side.CRM, "Ana")),
    (C, None, "Ani", (Why.OWNER_AT_FIRST_SIGHT, Side.KIRIM, "Ani")),
    (C, "", "Ani", (Why.OWNER_AT_FIRST_SIGHT, Side.KIRIM, "Ani")),
    (K, None, "Ani", (Why.SEEDED, Side.KIRIM, "Ani")),
    (K, "", "Ani", (Why.SEEDED, Side.KIRIM, "Ani")),
    (K, "  ", "Ani", (Why.SEEDED, Side.KIRIM, "Ani")),
    (C, "Ana", None, (Why.SEEDED, Side.CRM, "Ana")),
    (C, "Ana", "", (Why.SEEDED, Side.CRM, "Ana")),
    (K, "Ana", "Ana", (Why.EQUAL, None, "Ana")),
    (C, "Ana", " Ana ", (Why.EQUAL, None, "Ana")),
    (K, None, None, (Why.EQUAL, None, None)),
    (K, None, "", (Why.EQUAL, None, None)),
    (K, ABSENT, "Ani", None),
    (K, "Ana", ABSENT, None),
    (C, ABSENT, "Ani", None),
    (C, "Ana", ABSENT, None),
    (C, ABSENT, ABSENT, None),
    (K, ABSENT, None, None),
]


@pytest.mark.parametrize(("owner", "kirim", "crm", "expected"), FIRST_SIGHT)
def test_at_first_sight_the_owner_wins_or_is_seeded(owner: Owner, kirim: object, crm: object, expected: object) -> None:
    assert told(decide(rules(replace(NAME, owner=owner)), pair(kirim, crm))) == expected


CHANGED = [
    # owner, kirim, crm, base, expected
    (K, "b", "a", ("a", "a"), (Why.OWNER_CHANGED, Side.CRM, "b")),
    (K, "a", "b", ("a", "a"), (Why.RESTORED, Side.CRM, "a")),
    (K, "b", "c", ("a", "a"), (Why.CONFLICT, Side.CRM, "b")),
    (C, "a", "b", ("a", "a"), (Why.OWNER_CHANGED, Side.KIRIM, "b")),
    (C, "b", "a", ("a", "a"), (Why.RESTORED, Side.KIRIM, "a")),
    (C, "b", "c", ("a", "a"), (Why.CONFLICT, Side.KIRIM, "c")),
    (K, "b", "b", ("a", "a"), (Why.EQUAL, None, "b")),  # both moved to the same value
    (C, "b", " b", ("a", "a"), (Why.EQUAL, None, "b")),
    (K, "a", "a", ("a", "a"), None),
    (K, " a", "a ", ("a", "a"), None),  # only the spelling moved
    # clearing: an explicit null of the owner, with a base
    (K, None, "a", ("a", "a"), (Why.OWNER_CHANGED, Side.CRM, None)),
    (K, "", "a", ("a", "a"), (Why.OWNER_CHANGED, Side.CRM, "")),
    (C, "a", None, ("a", "a"), (Why.OWNER_CHANGED, Side.KIRIM, None)),
    (K, "a", None, ("a", "a"), (Why.RESTORED, Side.CRM, "a")),
    (C, None, "a", ("a", "a"), (Why.RESTORED, Side.KIRIM, "a")),
    (K, None, "b", ("a", "a"), (Why.CONFLICT, Side.CRM, None)),
    (C, "b", None, ("a", "a"), (Why.CONFLICT, Side.KIRIM, None)),
    (K, None, None, ("a", "a"), (Why.EQUAL, None, None)),
    (K, None, "a", (None, None), (Why.RESTORED, Side.CRM, None)),  # the owner agreed to be empty
    (K, "a", None, (None, None), (Why.OWNER_CHANGED, Side.CRM, "a")),
    # absent is unknown: what was last agreed stands for it
    (K, ABSENT, "a", ("a", "a"), None),
    (K, "a", ABSENT, ("a", "a"), None),
    (K, ABSENT, ABSENT, ("a", "a"), None),
    (K, "b", ABSENT, ("a", "a"), (Why.OWNER_CHANGED, Side.CRM, "b")),
    (C, ABSENT, "b", ("a", "a"), (Why.OWNER_CHANGED, Side.KIRIM, "b")),
    (K, ABSENT, "b", ("a", "a"), (Why.RESTORED, Side.CRM, "a")),
    # agreement in two spellings: cut, trimmed, respelt
    (K, "abcdef", "abc", ("abcdef", "abc"), None),
    (C, "abc", "abcdef", ("abc", "abcdef"), None),
    (K, "abcdeX", "abc", ("abcdef", "abc"), (Why.OWNER_CHANGED, Side.CRM, "abcdeX")),
    (K, "abcdef", "abX", ("abcdef", "abc"), (Why.RESTORED, Side.CRM, "abcdef")),
    (K, "abcdef", None, ("abcdef", None), None),  # the far side dropped it altogether
    (K, None, "abc", ("abcdef", "abc"), (Why.OWNER_CHANGED, Side.CRM, None)),
]


@pytest.mark.parametrize(("owner", "kirim", "crm", "base", "expected"), CHANGED)
def test_with_a_base_the_one_who_moved_and_the_one_who_owns_decide(
    owner: Owner, kirim: object, crm: object, base: tuple[Value, Value], expected: object
) -> None:
    assert told(decide(rules(replace(NAME, owner=owner)), pair(kirim, crm, base))) == expected


def test_the_value_that_loses_a_conflict_is_named() -> None:
    step = only(decide(rules(NAME), pair("b", "c", ("a", "a"))))

    assert (step.why, step.competing, step.old) == (Why.CONFLICT, "c", "c")


def test_the_value_that_is_undone_is_named() -> None:
    step = only(decide(rules(replace(NAME, owner=C)), pair("b", "a", ("a", "a"))))

    assert (step.why, step.competing, step.old) == (Why.RESTORED, "b", "b")


@pytest.mark.parametrize(
    ("owner", "kirim", "crm", "expected"),
    [(K, "a", "b", "b"), (C, "b", "a", "b")],
)
def test_drift_is_reported_once_where_the_mapping_says_so(owner: Owner, kirim: str, crm: str, expected: str) -> None:
    reporting = rules(replace(NAME, owner=owner, on_drift=OnDrift.REPORT))
    view = pair(kirim, crm, ("a", "a"))

    decision = decide(reporting, view)
    done = settle(reporting, view, decision)

    assert told(decision) == (Why.DRIFT, None, expected)
    assert decision.quiet
    assert done.base == view.base
    assert decide(reporting, replace(view, noted=done.noted)).steps == ()


def test_drift_that_is_only_reported_gives_way_when_the_owner_moves() -> None:
    reporting = rules(replace(NAME, on_drift=OnDrift.REPORT))
    view = pair("z", "b", ("a", "a"), name=Noted(Why.DRIFT, "a", "b"))

    step = only(decide(reporting, view))

    assert (step.why, step.to, step.value, step.competing) == (Why.CONFLICT, Side.CRM, "z", "b")


def test_drift_that_takes_a_new_value_is_reported_again() -> None:
    reporting = rules(replace(NAME, on_drift=OnDrift.REPORT))

    assert told(decide(reporting, pair("a", "c", ("a", "a"), name=Noted(Why.DRIFT, "a", "b")))) == (
        Why.DRIFT,
        None,
        "c",
    )


UNWRITABLE = [
    # owner, kirim_writable, crm_writable, kirim, crm, base, the side that is left
    (K, True, False, "a", "b", None, Side.CRM),
    (C, False, True, "a", "b", None, Side.KIRIM),
    (K, False, True, None, "b", None, Side.KIRIM),  # cannot be seeded
    (C, True, False, "a", None, None, Side.CRM),
    (K, True, False, "a", "b", ("a", "a"), Side.CRM),  # cannot be restored
    (C, False, True, "b", "a", ("a", "a"), Side.KIRIM),
    (K, True, False, "b", "a", ("a", "a"), Side.CRM),
    (K, True, False, "b", "c", ("a", "a"), Side.CRM),
]


@pytest.mark.parametrize(("owner", "kirim_writable", "crm_writable", "kirim", "crm", "base", "left"), UNWRITABLE)
def test_a_side_that_takes_no_writes_is_noted_once_and_never_written(
    owner: Owner,
    kirim_writable: bool,
    crm_writable: bool,
    kirim: Value,
    crm: Value,
    base: tuple[Value, Value] | None,
    left: Side,
) -> None:
    fixed = rules(replace(NAME, owner=owner, kirim_writable=kirim_writable, crm_writable=crm_writable))
    view = pair(kirim, crm, base)

    decision = decide(fixed, view)
    step = only(decision)
    done = settle(fixed, view, decision)

    assert (step.why, step.to, step.about) == (Why.NOT_WRITABLE, None, left)
    assert step.old == (kirim if left is Side.KIRIM else crm)
    assert decide(fixed, replace(view, base=done.base, noted=done.noted)).steps == ()


def test_a_new_record_gets_every_value_that_kirim_has() -> None:
    all_of_it = rules(
        NAME,
        FieldRule("email", "mail", C, FieldType.EMAIL),
        FieldRule("metadata.city", "city", C),
        FieldRule("metadata.none", "none", K),
        FieldRule("metadata.unknown", "unknown", K),
        FieldRule("metadata.fixed", "fixed", K, crm_writable=False),
    )
    kirim: dict[str, Value] = {"name": "Ana", "email": "a@b.c", "metadata.city": "Bandung", "metadata.none": None}
    view = PairView({**kirim, "metadata.fixed": "x", "foreign": "y"}, None)

    decision = decide(all_of_it, view)

    assert decision.writes(Side.CRM) == {"fullname": "Ana", "mail": "a@b.c", "city": "Bandung"}
    assert decision.writes(Side.KIRIM) == {}
    assert {step.why for step in decision.steps} == {Why.CREATED}


def test_a_value_that_was_refused_at_creation_is_left_out_until_it_changes() -> None:
    refused = {"name": Noted(Why.REFUSED, "Ana", None)}

    assert decide(rules(NAME), PairView({"name": "Ana "}, None, noted=refused)).steps == ()
    assert decide(rules(NAME), PairView({"name": "Ani"}, None, noted=refused)).writes(Side.CRM) == {"fullname": "Ani"}


def test_a_refused_value_is_not_tried_again_until_either_side_changes() -> None:
    view = pair("b", "a", ("a", "a"))
    decision = decide(rules(NAME), view)

    done = settle(rules(NAME), view, decision, refused={Side.CRM: {"fullname": "too long"}})
    after = replace(view, base=done.base, noted=done.noted)

    assert done.base == view.base
    assert decide(rules(NAME), after).steps == ()
    assert decide(rules(NAME), replace(after, kirim={"name": " b "})).steps == ()  # a respelling is no change
    assert told(decide(rules(NAME), replace(after, kirim={"name": "c"}))) == (Why.OWNER_CHANGED, Side.CRM, "c")
    assert told(decide(rules(NAME), replace(after, crm={"fullname": "d"}))) == (Why.CONFLICT, Side.CRM, "b")


def test_a_refused_field_does_not_keep_the_others_from_agreement() -> None:
    both = rules(NAME, FieldRule("email", "mail", K, FieldType.EMAIL))
    view = PairView({"name": "b", "email": "x@y.z"}, {"fullname": None, "mail": None})
    decision = decide(both, view)

    done = settle(both, view, decision, {Side.CRM: {"fullname": "b"}}, {Side.CRM: {"mail": "bad"}})

    assert done.base == {"name": Agreed("b", "b")}
    assert done.noted == {"email": Noted(Why.REFUSED, "x@y.z", None)}


def test_a_write_that_was_not_answered_moves_nothing() -> None:
    view = pair("b", "a", ("a", "a"))

    done = settle(rules(NAME), view, decide(rules(NAME), view))

    assert (done.base, done.noted) == (view.base, view.noted)


@pytest.mark.parametrize("held", ["abc", "ABCDEF", None, ""])
def test_what_a_platform_makes_of_a_value_counts_as_agreement_and_is_told(held: Value) -> None:
    view = pair("abcdef", "old", ("old", "old"))
    decision = decide(rules(NAME), view)

    done = settle(rules(NAME), view, decision, {Side.CRM: {"fullname": held}})
    after = PairView(view.kirim, {"fullname": held}, done.base, done.noted)

    assert done.respelled == {"name": held}
    assert decide(rules(NAME), after).steps == ()


def test_a_spelling_that_is_the_same_value_is_not_worth_telling() -> None:
    phone = rules(FieldRule("phone_number", "phone", K, FieldType.PHONE))
    view = PairView({"phone_number": "+6285117600829"}, {"phone": None})

    done = settle(phone, view, decide(phone, view), {Side.CRM: {"phone": "0851 1760 0829"}})

    assert done.respelled == {}
    assert done.base == {"phone_number": Agreed("+6285117600829", "0851 1760 0829")}


def test_an_answer_that_does_not_return_the_field_is_believed() -> None:
    view = pair("b", "a", ("a", "a"))

    done = settle(rules(NAME), view, decide(rules(NAME), view), {Side.CRM: {}})

    assert done.base == {"name": Agreed("b", "b")}


def test_reaching_agreement_forgets_what_was_noted() -> None:
    noted = Noted(Why.REFUSED, "b", "a")
    equal = pair("c", "c", ("a", "a"), name=noted)
    written = pair("c", "a", ("a", "a"), name=noted)

    assert settle(rules(NAME), equal, decide(rules(NAME), equal)).noted == {}
    assert settle(rules(NAME), written, decide(rules(NAME), written), {Side.CRM: {"fullname": "c"}}).noted == {}


def test_fields_without_a_rule_are_neither_compared_nor_written() -> None:
    view = PairView({"name": "a", "foreign": "x"}, {"fullname": "a", "other": "y"}, {"name": Agreed("a", "a")})

    assert decide(rules(NAME), view).steps == ()


def test_each_side_is_written_in_its_own_names() -> None:
    both = rules(NAME, FieldRule("email", "mail", C, FieldType.EMAIL))
    view = PairView({"name": "a", "email": "old@x.y"}, {"fullname": "b", "mail": "new@x.y"})

    decision = decide(both, view)

    assert decision.writes(Side.CRM) == {"fullname": "a"}
    assert decision.writes(Side.KIRIM) == {"email": "new@x.y"}


def test_a_set_is_the_same_in_any_order() -> None:
    labels = rules(FieldRule("labels", "tags", K, FieldType.SET))

    assert decide(labels, PairView({"labels": ("a", "b")}, {"tags": ("b", "a", "a")})).quiet
    assert decide(labels, PairView({"labels": ()}, {"tags": None})).quiet
    assert decide(labels, PairView({"labels": ("a",)}, {"tags": ("a", "b")})).writes(Side.CRM) == {"tags": ("a",)}


@pytest.mark.parametrize(
    ("owner", "kirim", "expected"),
    [
        (K, "usr_1", (Why.OWNER_AT_FIRST_SIGHT, Side.CRM, "usr_1")),
        (K, None, (Why.EQUAL, None, None)),
        (C, "usr_1", None),
    ],
)
def test_a_record_that_a_stranger_owns_from_the_start_is_kirims_to_give_away(
    owner: Owner, kirim: Value, expected: object
) -> None:
    lens = Assigned(Plain("fullname"), {"usr_1": "005A"})
    rule = FieldRule("name", "fullname", owner, crm_lens=lens)

    assert told(decide(rules(rule), pair(kirim, "005Z"))) == expected
    assert told(decide(rules(rule), pair(kirim, ABSENT))) is None
