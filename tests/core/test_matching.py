"""Matching: one free record that holds the same is adopted, several are shown, and nobody else's is ever taken."""

from hypothesis import given
from hypothesis import strategies as st

from crmsync.core.matching import Match, MatchRule, find, spellings
from crmsync.model import FieldType, Kind, Record

PHONE = MatchRule("phone_number", "phone", FieldType.PHONE)
EMAIL = MatchRule("email", "email", FieldType.EMAIL)
CODE = MatchRule("metadata.code", "code", FieldType.TEXT)
ANA = {"phone_number": "+6281234567890", "email": "Ana@Example.com", "metadata.code": "007"}


def record(id: str, external_id: str | None = None, *, archived: bool = False, **fields: str) -> Record:
    return Record(Kind.CONTACT, id, fields, external_id=external_id, archived=archived)


def test_a_number_is_asked_for_in_every_usual_spelling() -> None:
    asked = spellings(PHONE, ANA["phone_number"], "ID")
    assert asked == ("+6281234567890", "6281234567890", "+62 812-3456-7890", "0812-3456-7890", "081234567890")


def test_what_identifies_nobody_is_not_asked_for() -> None:
    assert spellings(PHONE, "call me", "ID") == ()
    assert spellings(PHONE, None, "ID") == ()
    assert spellings(EMAIL, "", None) == ()


def test_one_free_record_that_holds_the_same_is_found() -> None:
    local = record("7", phone="0812 3456 7890")
    finding = find([PHONE, EMAIL], ANA, [local], region="ID")
    assert finding.match is Match.FOUND
    assert finding.record == local


def test_one_record_that_meets_two_rules_is_one_candidate() -> None:
    both = record("7", phone="+6281234567890", email="ana@example.com")
    finding = find([PHONE, EMAIL], ANA, [both, both], region="ID")
    assert finding.candidates == ((both, (PHONE, EMAIL)),)


def test_a_number_that_leads_to_one_and_an_address_that_leads_to_another_are_for_a_person_to_decide() -> None:
    finding = find([PHONE, EMAIL], ANA, [record("8", email="ana@example.com"), record("7", phone="+6281234567890")])
    assert finding.match is Match.UNCLEAR
    assert [candidate.id for candidate, _ in finding.candidates] == ["7", "8"]
    assert finding.record is None


def test_records_of_others_refused_ones_and_deleted_ones_are_not_taken() -> None:
    held = {"phone": "+6281234567890"}
    none_free = [
        record("1", external_id="ctc_other", **held),
        record("2", archived=True, **held),
        record("3", **held),
        record("4", **held),
    ]
    assert find([PHONE], ANA, none_free, taken={"3"}, refused={"4"}).match is Match.NEW


def test_leading_zeros_tell_codes_apart() -> None:
    assert find([CODE], ANA, [record("7", code="7")]).match is Match.NEW
    assert find([CODE], ANA, [record("7", code=" 007 ")]).match is Match.FOUND


def test_two_empty_values_are_no_match() -> None:
    assert find([EMAIL], {"email": ""}, [record("7", email="")]).match is Match.NEW


@given(st.permutations(["1", "2", "3"]), st.sets(st.sampled_from(["1", "2", "3"])))
def test_the_order_in_which_the_crm_answers_does_not_matter(order: list[str], refused: set[str]) -> None:
    found = [record(id, phone="+6281234567890") for id in order]
    finding = find([PHONE], ANA, found, refused=refused)
    assert [candidate.id for candidate, _ in finding.candidates] == sorted({"1", "2", "3"} - refused)
    assert (finding.match is Match.FOUND) == (len(refused) == 2)
