"""The people of the demonstration: what they type into Kirim and into the CRM, drawn from a seed.

They change what their side owns, and also what it does not own; they clear fields and respell values. No two of
them ever type the same value: what is written somewhere can then be told from who wrote it.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections import Counter
from enum import StrEnum
from random import Random
from typing import Any

from crmsync.sandbox.crm import Crm, Linked
from crmsync.sandbox.fields import METADATA, Side
from crmsync.sandbox.kirim import KirimEmulator

FIRST_NAMES = ("Dewi", "Budi", "Siti", "Agus", "Rina", "Joko", "Putri", "Andi", "Zoë", "José", "Wayan", "Ayu", "Ngọc")
COMPANIES = ("PT Sumber Makmur", "CV Cahaya Baru", "Toko Kopi Senja", "UD Tani Jaya", "PT Laut Biru", "Batik Kencana")
CITIES = ("Jakarta", "Bandung", "Surabaya", "Denpasar", "Medan", "Makassar", "Yogyakarta", "Kota Baru")
METADATA_FIELDS = ("metadata.company", "metadata.city", "metadata.title")
TITLES = ("Manager", "Owner", "Buyer", "Director", "Sales Lead", "Finance")


class Deed(StrEnum):
    """What a person did to a field."""

    CHANGED = "changed"  # a new value on the side that owns the field
    CLEARED = "cleared"  # emptied on the side that owns it
    RESPELLED = "respelled"  # the same value in other letters: nothing is to be written
    MEDDLED = "meddled"  # changed or emptied on the side that does not own it: to be restored


class Pen:
    """Values that nobody has typed before: pens of one seed and different `hand` never write the same."""

    def __init__(self, seed: int, hand: int) -> None:
        self.random = Random(f"{seed}/{hand}")
        self._numbers = itertools.count(1 + hand, len(Side))

    def value(self, field: str) -> str:
        """A new value for a Kirim field."""
        number = next(self._numbers)
        match field:
            case "phone_number":
                return f"+62812{30_000_000 + number:08d}"
            case "email":
                return f"{self._plain_name()}.{number}@example.com"
            case "name":
                return f"{self.random.choice(FIRST_NAMES)} {number}"
        words = {"metadata.company": COMPANIES, "metadata.city": CITIES, "metadata.title": TITLES}[field]
        return f"{self.random.choice(words)} {number}"

    def _plain_name(self) -> str:
        folded = unicodedata.normalize("NFKD", self.random.choice(FIRST_NAMES))
        return "".join(letter for letter in folded if letter.isascii()).lower()


class KirimPeople:
    """Colleagues who work in Kirim. It owns number and e-mail; the rest is the CRM's."""

    def __init__(self, kirim: KirimEmulator, crm: Crm, pen: Pen) -> None:
        self.deeds: Counter[Deed] = Counter()
        self._kirim = kirim
        self._crm = crm
        self._pen = pen

    def add(self) -> str:
        """A new contact; some have no e-mail or no title yet."""
        pen, metadata = self._pen, {}
        for field, share in (("metadata.company", 1.0), ("metadata.city", 1.0), ("metadata.title", 0.7)):
            if pen.random.random() < share:
                metadata[field.removeprefix(METADATA)] = pen.value(field)
        return self._kirim.create_contact(
            pen.value("phone_number"),
            name=pen.value("name"),
            email=pen.value("email") if pen.random.random() < 0.9 else None,
            metadata=metadata,
        )

    def edit(self, contact_id: str) -> None:
        """One edit. What the CRM owns is only touched where the CRM has a value: else nobody has decided yet."""
        record = self._crm.linked(contact_id)
        if record is None:
            return
        choice = self._pen.random.random()
        if choice < 0.45:
            self._change_email(contact_id)
        elif choice < 0.6:
            self._do(contact_id, Deed.CHANGED, phone_number=self._pen.value("phone_number"))
        elif choice < 0.75:
            self._do(contact_id, Deed.MEDDLED, name=self._pen.value("name"))
        else:
            self._meddle_with_metadata(contact_id, record)

    def _change_email(self, contact_id: str) -> None:
        choice = self._pen.random.random()
        with self._kirim.lock:
            held = self._kirim.workspace.contacts.by_id[contact_id].email
            if held and choice < 0.25:
                self._do(contact_id, Deed.RESPELLED, email=held.swapcase())
            elif held and choice < 0.35:
                self._do(contact_id, Deed.CLEARED, email=None)
            else:
                self._do(contact_id, Deed.CHANGED, email=self._pen.value("email"))

    def _meddle_with_metadata(self, contact_id: str, record: Linked) -> None:
        field = self._pen.random.choice(METADATA_FIELDS)
        if not record.values.get(self._crm.field(field)):
            return
        key = field.removeprefix(METADATA)
        with self._kirim.lock:
            metadata = dict(self._kirim.workspace.contacts.by_id[contact_id].metadata or {})
            if key == "city" and self._pen.random.random() < 0.3:
                metadata.pop(key, None)
            else:
                metadata[key] = self._pen.value(field)
            self._do(contact_id, Deed.MEDDLED, metadata=metadata)

    def _do(self, contact_id: str, deed: Deed, **fields: Any) -> None:
        self._kirim.edit_contact(contact_id, **fields)
        self.deeds[deed] += 1


class CrmPeople:
    """Colleagues who work in the CRM. It owns name, company, city and title."""

    def __init__(self, kirim: KirimEmulator, crm: Crm, pen: Pen) -> None:
        self.deeds: Counter[Deed] = Counter()
        self._kirim = kirim
        self._crm = crm
        self._pen = pen

    def add(self) -> None:
        """A contact that has nothing to do with Kirim, and is to be left alone."""
        self._crm.add(self._pen.value("name"), self._pen.value("email"))

    def edit(self, contact_id: str) -> None:
        """One edit. E-mails are only touched where Kirim has one: else nobody has decided yet."""
        record = self._crm.linked(contact_id)
        if record is None:
            return
        choice = self._pen.random.random()
        if choice < 0.6:
            self._change_own(record)
        elif choice < 0.7:
            self._respell(contact_id, record)
        elif choice < 0.85:
            if self._kirim.workspace.contacts.by_id[contact_id].email:
                self._do(record, Deed.MEDDLED, "email", self._pen.value("email"))
        else:
            number = None if self._pen.random.random() < 0.3 else self._pen.value("phone_number")
            self._do(record, Deed.MEDDLED, "phone_number", number)

    def _change_own(self, record: Linked) -> None:
        field = self._pen.random.choice(("name", *METADATA_FIELDS))
        titled = field == "metadata.title" and record.values.get(self._crm.field(field))
        if titled and self._pen.random.random() < 0.4:
            self._do(record, Deed.CLEARED, field, None)
        else:
            self._do(record, Deed.CHANGED, field, self._pen.value(field))

    def _respell(self, contact_id: str, record: Linked) -> None:
        """A number as people write it at home, a name with an accent made of two characters."""
        with self._crm.emulator.lock:
            record = self._crm.linked(contact_id) or record
            phone, name = (str(record.values.get(self._crm.field(one)) or "") for one in ("phone_number", "name"))
            if phone and self._pen.random.random() < 0.5:
                self._do(record, Deed.RESPELLED, "phone_number", "0" + phone.removeprefix("+62").strip())
            elif name:
                self._do(record, Deed.RESPELLED, "name", f" {unicodedata.normalize('NFD', name)}")

    def _do(self, record: Linked, deed: Deed, field: str, value: str | None) -> None:
        self._crm.edit(record.id, **{self._crm.field(field): value})
        self.deeds[deed] += 1


People = KirimPeople | CrmPeople
