"""Values that a person types, read as the type of their field."""

from __future__ import annotations

import pytest

from crmsync.core.typed import NotTyped, typed
from crmsync.model import FieldType, Value

READ = [
    (FieldType.TEXT, " Ana ", " Ana "),
    (FieldType.TEXT, "007", "007"),
    (FieldType.TEXT, "", None),
    (FieldType.NUMBER, "12", 12),
    (FieldType.NUMBER, "-0.10", "-0.10"),
    (FieldType.BOOLEAN, "Yes", True),
    (FieldType.BOOLEAN, "0", False),
    (FieldType.DATE, "2026-11-20", "2026-11-20"),
    (FieldType.DATETIME, "2026-11-20T09:30:00Z", "2026-11-20T09:30:00+00:00"),
    (FieldType.EMAIL, "ana@b.c", "ana@b.c"),
    (FieldType.PHONE, "0851-1760-0829", "+6285117600829"),
    (FieldType.SET, "VIP, new ,", ("VIP", "new")),
    (FieldType.SET, " ", None),
]
REFUSED = [
    (FieldType.NUMBER, "twelve"),
    (FieldType.NUMBER, "NaN"),
    (FieldType.BOOLEAN, "perhaps"),
    (FieldType.DATE, "20.11.2026"),
    (FieldType.DATETIME, "2026-11-20T09:30:00"),
    (FieldType.DATETIME, "soon"),
    (FieldType.EMAIL, "ana"),
    (FieldType.PHONE, "call me"),
]


@pytest.mark.parametrize(("kind", "written", "value"), READ)
def test_a_value_is_read_as_its_type(kind: FieldType, written: str, value: Value) -> None:
    found = typed(kind, written, "ID")

    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(("kind", "written"), REFUSED)
def test_what_cannot_be_meant_is_refused(kind: FieldType, written: str) -> None:
    with pytest.raises(NotTyped):
        typed(kind, written, "ID")
