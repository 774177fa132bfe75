"""The last name of somebody who has none: Salesforce wants one of every contact and lead.

The number stands in for it, or else the external id. A stand-in is recognised by what it is, not remembered, and
whoever reads the record reads no last name.
"""

from __future__ import annotations

import re

from connectors.salesforce.values import Row
from crmsync.model import Fields, Value

NAME = "LastName"
PHONES = ("Phone", "MobilePhone", "HomePhone", "OtherPhone")


def stand_in(fields: Fields, held: Fields, external_id: str) -> Value:
    """What a record without a last name is called. `held` tells what is not being written."""
    numbers = (fields[name] if name in fields else held.get(name) for name in PHONES)
    return next((number for number in numbers if number), external_id)


def is_stand_in(row: Row, key: str) -> bool:
    """Whether a last name is one. The row has the numbers and the external id as they are held."""
    name = str(row.get(NAME) or "")
    digits = re.sub(r"\D", "", name)
    numbers = {re.sub(r"\D", "", str(row.get(phone) or "")) for phone in PHONES} - {""}
    written_as_number = bool(digits) and not any(character.isalpha() for character in name)
    return bool(name) and (name == row.get(key) or (written_as_number and digits in numbers))
