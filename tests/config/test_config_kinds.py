"""What is kept in step, as it is written in a file: every form there is, and what does not go together."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest

from crmsync.config import load
from crmsync.core.lens import Assigned, Chosen, Constant, Dialled, Joined, Listed, Plain, Without
from crmsync.core.mapping import Owner, Rules
from crmsync.core.matching import MatchRule
from crmsync.core.messages import Log
from crmsync.errors import ConfigError
from crmsync.model import CONTACT_LINK, FieldType, Kind
from crmsync.testing.memory import MemoryConnector

HEAD = """\
tenant: acme
region: "ID"
kirim: { api_key: "${KEY}", webhook_secrets: ["${SECRET}"], phone_number_ids: ["106540352242922"] }
connections:
  crm:
    connector: memory
    webhook_secrets: ["${HOOK}"]
"""
ENVIRONMENT = {
    "KEY": "kdv_test_0123456789abcdef01234567",
    "SECRET": "whsec_0123456789abcdef0123456789",
    "HOOK": "a-secret-of-the-crm-0123456789",
}


class Whole(MemoryConnector):
    """A connector that can do everything."""


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """The one connection that a text makes, or what is wrong with it."""

    def run(text: str) -> Any:
        file = tmp_path / "a.yaml"
        file.write_text(HEAD + indent(dedent(text), "    "))
        connectors = {"memory": lambda: Whole}
        try:
            return load(file, connectors=connectors, environ=ENVIRONMENT).tenants[0].connections[0]
        except ConfigError as error:
            return [str(problem).replace(f"{tmp_path}/", "") for problem in error.problems]

    return run


def rules(connection: Any, kind: Kind = Kind.CONTACT) -> Rules:
    assert not isinstance(connection, list), connection
    found: Rules = connection.rules[kind]
    return found


def test_two_fields_of_one_text(read: Any) -> None:
    (rule,) = rules(read("contacts: { fields: { name: firstname + lastname } }")).fields
    assert (rule.right, rule.crm, rule.owner) == (Joined(("firstname", "lastname")), "firstname + lastname", Owner.CRM)


def test_one_text_of_two_fields(read: Any) -> None:
    (rule,) = rules(read('contacts: { fields: { "metadata.first + metadata.last": name } }')).fields
    assert (rule.left, rule.kirim_writable) == (Joined(("metadata.first", "metadata.last")), True)


def test_one_field_into_several_is_remembered_apart(read: Any) -> None:
    first, second = rules(
        read("contacts: { fields: { name: [{ crm: nick, owner: crm }, { crm: shown, owner: kirim }] } }")
    ).fields
    assert (first.name, second.name) == ("name → nick", "name → shown")


def test_every_lens_that_can_be_asked_for(read: Any) -> None:
    found = rules(
        read(
            """
            contacts:
              constants: { origin: WhatsApp }
              initial: { note: "hello {name}" }
              fields:
                phone_number: { crm: phone, format: national }
                labels: { crm: tags, separator: ";" }
                metadata.tier: { crm: tier, map: { gold: [GOLD, PLATINUM] }, otherwise: NONE }
                metadata.tags: { crm: words, owner: union, type: set }
                email: { crm: email, owner: latest }
            """
        )
    )
    by_name = {rule.kirim: rule for rule in found.fields}
    assert isinstance(by_name["phone_number"].right, Dialled)
    assert by_name["labels"].right == Listed(Plain("tags"), ";")
    tier = by_name["metadata.tier"].right
    assert isinstance(tier, Chosen)
    assert (tier.words, tier.fallback) == ({"gold": ("GOLD", "PLATINUM")}, "NONE")
    assert by_name["= WhatsApp"].left == Constant("WhatsApp")
    assert found.initial == (("note", "hello {name}"),)


def test_a_record_may_be_recognised_by_mapped_fields_and_by_others(read: Any) -> None:
    text = """
    contacts:
      match: [phone, { kirim: metadata.code, crm: code }]
      fields: { phone_number: phone }
    """
    assert rules(read(text)).match == (
        MatchRule("phone_number", "phone", FieldType.PHONE),
        MatchRule("metadata.code", "code", FieldType.TEXT),
    )


CONVERSATIONS = """
contacts: { fields: { phone_number: phone } }
conversations:
  initial: { subject: "WhatsApp {contact_name}" }
  fields:
    status: { crm: stage, map: { open: ["1", "2"], resolved: "4" } }
    assignee: { crm: owner, users: { usr_1: "11" }, otherwise: "99" }
"""


def test_conversations_belong_to_contacts_and_users_are_known_by_a_list(read: Any) -> None:
    found = rules(read(CONVERSATIONS), Kind.CONVERSATION)
    by_name = {rule.kirim: rule for rule in found.fields}
    assert by_name["assignee"].right == Assigned(Plain("owner"), {"usr_1": "11"}, "99")
    assert by_name["status"].owner is Owner.KIRIM
    assert by_name[CONTACT_LINK].owner is Owner.UNION


def test_messages_and_segments(read: Any) -> None:
    connection = read(
        """
        contacts: { fields: { phone_number: phone, labels: tags } }
        messages: { log: digest, bodies: false }
        segments:
          - { segment: VIP customers, label: VIP, create_label: true, dwell_minutes: 5 }
        """
    )
    assert (connection.messages.log, connection.messages.bodies) == (Log.DIGEST, False)
    assert connection.segments["VIP"].dwell == timedelta(minutes=5)
    labels = next(rule for rule in rules(connection).fields if rule.kirim == "labels")
    assert labels.left == Without(Plain("labels"), frozenset({"VIP"}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "contacts: { fields: { name: [a, b] } }",
            "a.yaml:8: connections.crm.contacts.fields.name[1]: a and b would both be written to name;"
            " write owner: kirim in one of them",
        ),
        (
            "contacts: { fields: { name: { crm: a, owner: union } } }",
            "a.yaml:8: connections.crm.contacts.fields.name.owner: only sets can be merged; name is of type text:"
            " write type: set, or another owner",
        ),
        (
            "contacts: { fields: { phone_number: { crm: a, owner: latest } } }",
            "a.yaml:8: connections.crm.contacts.fields.phone_number.owner: Kirim's API does not let phone_number be"
            " changed, so the CRM cannot own it; write owner: kirim",
        ),
        (
            "contacts: { fields: { name: { crm: a, map: { x: Y, z: y } } } }",
            "a.yaml:8: connections.crm.contacts.fields.name.map: y means both x and z",
        ),
        (
            "contacts: { fields: { name: { crm: a, otherwise: b } } }",
            "a.yaml:8: connections.crm.contacts.fields.name.otherwise: says nothing without `map`",
        ),
        (
            "contacts: { constants: { a: b }, fields: { name: a } }",
            "a.yaml:8: connections.crm.contacts.constants.a: the CRM field a is mapped already",
        ),
        (
            "contacts: { match: [email], fields: { name: a } }",
            "a.yaml:8: connections.crm.contacts.match[0]: email is not mapped to one CRM field; mapped are name",
        ),
        (
            "contacts: { initial: { a: '{nmae}' }, fields: { name: b } }",
            "a.yaml:8: connections.crm.contacts.initial.a: {nmae} is no field of a Kirim contact; did you mean name?",
        ),
        (
            "contacts: { fields: { name: b, email: x + b } }",
            "a.yaml:8: connections.crm.contacts.fields.email: the CRM field b is already mapped on line 8",
        ),
    ],
)
def test_what_does_not_go_together_is_said_with_its_place(read: Any, text: str, said: str) -> None:
    assert read(text) == [said]


def test_two_segments_do_not_share_a_label(read: Any) -> None:
    text = """
    contacts: { fields: { name: a } }
    segments: [{ segment: A, label: VIP }, { segment: B, label: VIP }]
    """
    assert read(text) == ["a.yaml:10: connections.crm.segments[1]: the label VIP is managed by another segment already"]


@pytest.mark.parametrize("name", ["poll", "operator", "run"])
def test_a_connection_is_not_called_like_a_cause(tmp_path: Path, name: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(HEAD.replace("  crm:", f"  {name}:") + "    contacts: { fields: { name: a } }\n")
    with pytest.raises(ConfigError, match=f"cannot be called {name}"):
        load(file, connectors={"memory": lambda: MemoryConnector}, environ=ENVIRONMENT)
