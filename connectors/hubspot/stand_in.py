"""The name of a contact who has none: HubSpot wants an e-mail or a name of every new contact.

The number stands in for it, or else the external id. A stand-in is recognised by what it is, not remembered, and
whoever reads the contact reads no name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from connectors.hubspot.values import Row
from crmsync.model import Fields, Value

NAME = "firstname"
ENOUGH = ("email", NAME, "lastname")
PHONES = ("phone", "mobilephone", "hs_whatsapp_phone_number")
TELLING = (NAME, "lastname", *PHONES)
"""What has to be known, besides the external id, to tell a stand-in from a name."""
EMPTY: Mapping[str, None] = dict.fromkeys(TELLING)


def is_nameless(fields: Fields) -> bool:
    """Whether HubSpot would refuse a new contact with these fields."""
    return not any(fields.get(name) for name in ENOUGH)


def stand_in(fields: Fields, external_id: str) -> Value:
    """What a new contact without a name is called."""
    return next((fields[name] for name in PHONES if fields.get(name)), external_id)


def is_stand_in(known: Row, key: str) -> bool | None:
    """Whether the first name is a stand-in; None where too little is known. `key` is the external id's property."""
    name = str(known.get(NAME) or "").strip()
    if not name or known.get("lastname"):
        return False
    if name == known.get(key) or any(_same(name, str(known.get(phone) or "")) for phone in PHONES):
        return True if "lastname" in known else None
    may_be_one = _is_number(name) and not all(phone in known for phone in PHONES)
    return None if may_be_one else False


def without_stand_in(properties: Row, known: Row, key: str) -> Row:
    """The properties as they are to be read. A first name of which it is not known what it is stays unknown."""
    verdict = is_stand_in(known, key)
    if NAME not in properties or verdict is False:
        return properties
    rest = {name: text for name, text in properties.items() if name != NAME}
    return {**rest, NAME: None} if verdict else rest


def _same(name: str, number: str) -> bool:
    """Whether a name is this number, which HubSpot may have set in another way since."""
    return name == number.strip() or (_is_number(name) and _digits(name) == _digits(number))


def _is_number(text: str) -> bool:
    return not any(character.isalpha() for character in text) and bool(_digits(text))


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)
