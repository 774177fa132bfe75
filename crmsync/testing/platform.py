"""The platform behind `MemoryConnector`: records, an index that may lag, faults on request, and a ledger of effects.

Deterministic: ids are counted, time is the clock it is given, nothing is random. Thread-safe. It answers like a
careless API: results come back in its own order, a no-op is accepted, texts may be respelt.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from threading import RLock
from types import MappingProxyType
from typing import TypeVar

from crmsync.http import wall_clock
from crmsync.model import FieldInfo, Fields, FieldType, Kind, Record, Ref, Value, Write
from crmsync.testing.account import AS_SENT, SCHEMA, Answer, Effect, Refused, Silent, Spelling
from crmsync.testing.fake import Trouble

T = TypeVar("T")
Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class _Fault:
    trouble: Trouble | int
    retry_after: str | None

    @property
    def applied(self) -> bool:
        return self.trouble in (Trouble.LOST, Trouble.CUT)

    def error(self) -> Exception:
        if isinstance(self.trouble, Trouble):
            return Silent(self.trouble)
        return Refused(self.trouble, self.retry_after)


@dataclass
class _Row:
    """One record: its present state, and what the index knows of it with the instant each state is indexed."""

    record: Record
    indexed: list[tuple[datetime, Record]] = field(default_factory=list)


class Platform:
    """Records in memory. What is not in the constructor can be set as an attribute at any time."""

    def __init__(
        self,
        clock: Clock = wall_clock,
        *,
        schema: Mapping[Kind, Sequence[FieldInfo]] = SCHEMA,
        spelling: Spelling = AS_SENT,
        index_lag: timedelta = timedelta(0),
        page_size: int = 100,
        unique_key: bool = True,
        partial_rows: bool = True,
        whole_batches: bool = False,
        missing: Sequence[str] = (),
    ) -> None:
        self.clock = clock
        self.schema = schema
        self.spelling = spelling
        self.index_lag = index_lag
        self.page_size = page_size
        self.unique_key = unique_key  # False: the external id is looked up in the index, lag and all
        self.partial_rows = partial_rows  # False: one refused field refuses its row
        self.whole_batches = whole_batches  # True: one refused row refuses its batch, with status 400
        self.missing = tuple(missing)  # what an administrator still has to make, one sentence each
        self._lock = RLock()
        self._rows: dict[str, _Row] = {}
        self._keys: dict[tuple[Kind, str], str] = {}
        self._moved: dict[str, str] = {}
        self._hidden: set[str] = set()
        self._refuses: set[tuple[str, Value]] = set()
        self._faults: deque[_Fault | None] = deque()
        self._ledger: list[Effect] = []
        self._requests: list[str] = []

    # What a test arranges and looks at

    def now(self) -> datetime:
        """The platform's present."""
        return self.clock()

    def set_time(self, at: datetime) -> None:
        """The clock stands at this instant from now on."""
        self.clock = lambda: at

    def add(self, external_id: str | None, fields: Fields, kind: Kind = Kind.CONTACT) -> str:
        """A person makes a record; returns its id."""
        with self._lock:
            return self._create(kind, external_id, fields, by_api=False).id

    def edit(self, id: str, fields: Fields) -> None:
        """A person changes a record; None clears."""
        with self._lock:
            self._update(self._live(id), fields, by_api=False)

    def held(self, id: str) -> Fields:
        """What is truly held, whatever the index says."""
        return self.record(id).fields

    def record(self, id: str) -> Record:
        """The record as it is now, merged ones under their survivor. KeyError where there is none."""
        with self._lock:
            return self._live(id)

    def records(self, kind: Kind = Kind.CONTACT) -> Sequence[Record]:
        """Every live record, in order of id."""
        with self._lock:
            return [row.record for row in self._all(kind)]

    def ids(self) -> Sequence[str]:
        """Every live record of any kind."""
        return [record.id for kind in self.schema for record in self.records(kind)]

    def delete(self, id: str) -> None:
        """A person deletes a record."""
        with self._lock:
            record = self._live(id)
            gone = replace(record, archived=True, version=self.now())
            self._store(gone)
            self._write_down("delete", record, gone, by_api=False)

    def restore(self, id: str) -> None:
        """A person takes a deleted record out of the bin."""
        with self._lock:
            gone = self._rows[id].record
            back = replace(gone, archived=False, version=self.now())
            self._store(back)
            self._write_down("restore", gone, back, by_api=False)

    def merge(self, winner: str, loser: str) -> str:
        """A person merges two records: the winner keeps its values and takes what it lacks; returns its id."""
        with self._lock:
            kept, gone = self._live(winner), self._live(loser)
            taken = {name: value for name, value in gone.fields.items() if kept.fields.get(name) is None}
            merged = replace(
                kept,
                fields=MappingProxyType({**kept.fields, **taken}),
                version=self.now(),
                external_id=kept.external_id or gone.external_id,
                aliases=(*kept.aliases, gone.id, *gone.aliases),
            )
            self._store(replace(gone, archived=True))
            self._moved[gone.id] = kept.id
            self._store(merged)
            self._write_down("merge", kept, merged, by_api=False)
            return kept.id

    def hide(self, id: str) -> None:
        """The index does not know the record yet."""
        self._hidden.add(id)

    def show(self, id: str) -> None:
        """The index catches up with the record."""
        self._hidden.discard(id)

    def refuse(self, field: str, value: Value) -> None:
        """From now on this value is not taken for this field."""
        self._refuses.add((field, value))

    def fail_next(
        self,
        trouble: Trouble | int,
        times: int = 1,
        *,
        skip: int = 0,
        retry_after: float | None = None,
        as_date: bool = False,
    ) -> None:
        """The next requests meet trouble, or an HTTP status; `skip` go well before. `LOST` and `CUT` are applied."""
        header = None if retry_after is None else f"{retry_after:g}"
        if retry_after is not None and as_date:
            header = format_datetime(self.now() + timedelta(seconds=retry_after), usegmt=True)
        with self._lock:
            self._faults.extend([None] * skip)
            self._faults.extend([_Fault(trouble, header)] * times)

    def heal(self) -> None:
        """Trouble that has not come yet does not come."""
        with self._lock:
            self._faults.clear()

    @property
    def ledger(self) -> Sequence[Effect]:
        """Every effect since the beginning, in order."""
        with self._lock:
            return tuple(self._ledger)

    @property
    def requests(self) -> Sequence[str]:
        """The operation of every request that came, answered or not."""
        with self._lock:
            return tuple(self._requests)

    # What its API offers

    def describe(self, kind: Kind) -> Sequence[FieldInfo]:
        """The schema."""
        return self._answer("describe", lambda: tuple(self.schema[kind]))

    def lacks(self, *, make: bool) -> Sequence[str]:
        """What is missing in the account; makes it if told to."""
        return self._answer("lacks", lambda: self._make(make))

    def write(self, kind: Kind, writes: Sequence[Write], *, create: bool = True) -> Sequence[Answer]:
        """Creates and updates in one call. Answers come in the platform's order, not in the caller's."""
        return self._answer("write", lambda: self._write(kind, writes, create))

    def read(self, kind: Kind, refs: Sequence[Ref]) -> Sequence[Record]:
        """What exists of what was asked for, in the platform's order."""
        return self._answer("read", lambda: self._read(kind, refs))

    def search(self, kind: Kind, field: str, values: Sequence[str]) -> Sequence[Record]:
        """Indexed records whose field equals one of the values, case aside."""
        wanted = {value.casefold() for value in values}
        return self._answer(
            "search",
            lambda: [seen for seen in self._index(kind) if str(seen.fields.get(field) or "").casefold() in wanted],
        )

    def page(self, kind: Kind, after: tuple[datetime, str]) -> tuple[Sequence[Record], bool]:
        """Indexed records behind a position, by version and id; and whether there are more."""
        return self._answer("page", lambda: self._page(kind, after))

    # How it works inside; the lock is held

    def _answer(self, operation: str, work: Callable[[], T]) -> T:
        with self._lock:
            self._requests.append(operation)
            fault = self._faults.popleft() if self._faults else None
            if fault is None:
                return work()
            if fault.applied:
                work()
            raise fault.error()

    def _make(self, make: bool) -> Sequence[str]:
        missing = self.missing
        self.missing = () if make else missing
        return missing

    def _write(self, kind: Kind, writes: Sequence[Write], create: bool) -> Sequence[Answer]:
        if self.whole_batches and any(self._verdict(kind, write, create).status >= 400 for write in writes):
            raise Refused(400)
        answers = [self._write_row(kind, write, create) for write in writes]
        return sorted(answers, key=lambda answer: answer.record.id if answer.record else "")

    def _write_row(self, kind: Kind, write: Write, create: bool) -> Answer:
        verdict = self._verdict(kind, write, create)
        if verdict.status >= 400:
            return verdict
        taken = {name: value for name, value in write.fields.items() if name not in verdict.refused}
        if verdict.record is None:
            made = self._create(kind, write.external_id, taken, by_api=True)
            return replace(verdict, record=made, created=True)
        record = self._update(verdict.record, taken, by_api=True, external_id=write.external_id)
        return replace(verdict, record=record)

    def _verdict(self, kind: Kind, write: Write, create: bool) -> Answer:
        """What will become of a row, before anything is done."""
        answer = Answer(write.external_id)
        target = self._target(kind, write)
        if target is None and (write.id or not create):
            return replace(answer, status=404)
        schema = {info.name: info for info in self.schema[kind]}
        refused = {
            name: reason for name, value in write.fields.items() if (reason := self._objection(schema.get(name), value))
        }
        if refused and (not self.partial_rows or len(refused) == len(write.fields)):
            return replace(answer, status=400, guilty=tuple(refused))
        if rival := self._rival(kind, write, target, schema):
            return replace(answer, status=409, candidate=rival)
        return replace(answer, record=target, refused=refused)

    def _target(self, kind: Kind, write: Write) -> Record | None:
        if write.id:
            return self._find_live(write.id, kind)
        if self.unique_key:
            known = self._keys.get((kind, write.external_id))
        else:
            known = next((seen.id for seen in self._index(kind) if seen.external_id == write.external_id), None)
        return self._find_live(known, kind) if known else None

    def _rival(self, kind: Kind, write: Write, target: Record | None, schema: Mapping[str, FieldInfo]) -> str | None:
        """Another record that holds a value of this row which must be unique."""
        keyed = self._keys.get((kind, write.external_id)) if self.unique_key else None
        if keyed and target and keyed != target.id:
            return keyed
        unique = self._spelt(kind, {n: v for n, v in write.fields.items() if v and n in schema and schema[n].unique})
        if unique:
            for row in self._all(kind):
                same = any(row.record.fields.get(name) == value for name, value in unique.items())
                if same and not (target and target.id == row.record.id):
                    return row.record.id
        return None

    def _objection(self, info: FieldInfo | None, value: Value) -> str:
        if info is None:
            return "unknown"
        if not info.writable:
            return "read_only"
        if (info.name, value) in self._refuses:
            return "refused"
        if value is None:
            return ""
        if info.options and value not in info.options:
            return "not_an_option"
        if info.type is FieldType.EMAIL and "@" not in str(value):
            return "not_an_email"
        return "wrong_type" if isinstance(value, tuple) is not (info.type is FieldType.SET) else ""

    def _read(self, kind: Kind, refs: Sequence[Ref]) -> Sequence[Record]:
        ids = {ref.id for ref in refs if ref.id}
        keys = {ref.external_id for ref in refs if ref.external_id}
        named = [record for id in ids if (record := self._find_live(id, kind))]
        keyed = [record for record in self._keyed(kind) if record.external_id in keys] if keys else []
        return sorted({record.id: record for record in (*named, *keyed)}.values(), key=lambda seen: seen.id)

    def _keyed(self, kind: Kind) -> Iterator[Record]:
        """Where an external id is looked up: the records themselves, or their index if it is no unique key."""
        return (row.record for row in self._all(kind)) if self.unique_key else self._index(kind)

    def _page(self, kind: Kind, after: tuple[datetime, str]) -> tuple[Sequence[Record], bool]:
        behind = sorted((seen for seen in self._index(kind) if _position(seen) > after), key=_position)
        return behind[: self.page_size], len(behind) > self.page_size

    def _index(self, kind: Kind) -> Iterator[Record]:
        now = self.now()
        for id, row in self._rows.items():
            if row.record.kind is not kind or id in self._hidden:
                continue
            known = [record for visible, record in row.indexed if visible <= now]
            if known and not known[-1].archived:
                yield known[-1]

    def _all(self, kind: Kind) -> Iterator[_Row]:
        return (row for row in self._rows.values() if row.record.kind is kind and not row.record.archived)

    def _find_live(self, id: str, kind: Kind | None = None) -> Record | None:
        while id in self._moved:
            id = self._moved[id]
        row = self._rows.get(id)
        if row is None or row.record.archived or (kind and row.record.kind is not kind):
            return None
        return row.record

    def _live(self, id: str) -> Record:
        record = self._find_live(id)
        if record is None:
            raise KeyError(id)
        return record

    def _create(self, kind: Kind, external_id: str | None, fields: Fields, *, by_api: bool) -> Record:
        names: dict[str, Value] = {info.name: None for info in self.schema[kind]}
        names["created_at"] = self.now().isoformat()
        filled = MappingProxyType({**names, **self._spelt(kind, fields)})
        record = Record(kind, f"m{len(self._rows) + 1:06d}", filled, self.now(), external_id)
        self._store(record)
        self._write_down("create", None, record, by_api=by_api)
        return record

    def _update(self, record: Record, fields: Fields, *, by_api: bool, external_id: str | None = None) -> Record:
        after = MappingProxyType({**record.fields, **self._spelt(record.kind, fields)})
        key = external_id or record.external_id
        changed = replace(record, fields=after, external_id=key)
        if changed != record:
            changed = replace(changed, version=self.now())
            self._store(changed)
        self._write_down("update", record, changed, by_api=by_api)
        return changed

    def _spelt(self, kind: Kind, fields: Fields) -> Fields:
        schema = {info.name: info for info in self.schema[kind]}
        spelt = {name: self.spelling(schema[name], value) for name, value in fields.items()}
        return {name: None if value in ("", ()) else value for name, value in spelt.items()}

    def _store(self, record: Record) -> None:
        now = self.now()
        row = self._rows.setdefault(record.id, _Row(record))
        if row.record.external_id and self._keys.get((record.kind, row.record.external_id)) == record.id:
            del self._keys[record.kind, row.record.external_id]
        if record.external_id and not record.archived:
            self._keys[record.kind, record.external_id] = record.id
        row.record = record
        known = [state for state in row.indexed if state[0] <= now][-1:]
        coming = [state for state in row.indexed if state[0] > now]
        row.indexed = [*known, *coming, (now + self.index_lag, record)]

    def _write_down(self, operation: str, before: Record | None, after: Record, *, by_api: bool) -> None:
        self._ledger.append(Effect(self.now(), operation, before, after, by_api))


def _position(record: Record) -> tuple[datetime, str]:
    return record.version or datetime.min.replace(tzinfo=UTC), record.id
