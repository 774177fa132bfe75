"""The parts of a connection that say what is kept in step: contacts, conversations, messages, segments."""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from zoneinfo import ZoneInfo

from crmsync.config.checks import Found
from crmsync.config.fields import FieldReader, kirim_field_problem
from crmsync.config.sections import (
    ContactsSection,
    ConversationsSection,
    KindSection,
    MatchSection,
    MessagesSection,
    SegmentSection,
)
from crmsync.config.source import Document, KeyPath
from crmsync.config.validate import Findings
from crmsync.core.lens import Constant, Plain, Without
from crmsync.core.mapping import VOCABULARIES, FieldRule, Owner, Rules, Vocabulary
from crmsync.core.matching import MatchRule
from crmsync.core.messages import Log, Logging
from crmsync.core.segments import Rule
from crmsync.model import CONTACT_LINK, Can, FieldType, Kind

KEYS: Mapping[str, Kind] = {"contacts": Kind.CONTACT, "conversations": Kind.CONVERSATION}
"""The key under which a kind of record is mapped."""
LABELS = "labels"
LINK = FieldRule(CONTACT_LINK, CONTACT_LINK, Owner.UNION, FieldType.SET, kirim_writable=False)
"""A conversation's record belongs to its contact's: that is added where it is missing, and never taken away."""


@dataclass(frozen=True, slots=True)
class KindReader:
    """Reads what one connection keeps in step. `can` is what its connector can, None if there is none."""

    document: Document
    findings: Findings
    path: KeyPath
    region: str | None
    zone: ZoneInfo
    name: str = ""
    kinds: frozenset[Kind] | None = None
    can: frozenset[Can] | None = None
    owned: list[Found] = field(default_factory=list)

    def rules(self) -> dict[Kind, Rules] | None:
        """The rules of every kind that is mapped; None where something is wrong with them."""
        found: dict[Kind, Rules] = {}
        before = len(self.findings.problems)
        for key, kind in KEYS.items():
            if key in self.document.at(self.path):
                rules = self._rules(key, kind)
                if rules is not None:
                    found[kind] = rules
        if Kind.CONVERSATION in found and Kind.CONTACT not in found and before == len(self.findings.problems):
            message = "conversations belong to contacts: map these too"
            self.findings.problem(self.document, (*self.path, "conversations"), message)
        return None if len(self.findings.problems) > before or Kind.CONTACT not in found else found

    def _rules(self, key: str, kind: Kind) -> Rules | None:
        """The rules of one kind. Its fields are read even where something beside them is wrong."""
        here = (*self.path, key)
        model: type[KindSection] = ContactsSection if kind is Kind.CONTACT else ConversationsSection
        section = self.findings.section(self.document, here, model)
        fields = (*here, "fields")
        if not isinstance(self.document.at(fields), dict):
            return None
        read = partial(self.findings.section, self.document)
        vocabulary = VOCABULARIES[kind]
        result = FieldReader(self.document, vocabulary, read, self.region, self.zone).mapped(fields)
        self.findings.problems += result.problems
        self.owned.extend(result.owned)
        if self.kinds is not None and kind not in self.kinds:
            self.findings.problem(self.document, here, f"the connector {self.name} has no {key}")
        if section is None:
            return None
        taken = {name for rule in result.rules for name in rule.right.names}
        constants = list(self._constants((*here, "constants"), section.constants, taken))
        match = self._match(here, section.match, result.rules) if isinstance(section, ContactsSection) else ()
        initial = tuple(self._initial((*here, "initial"), section.initial, taken, vocabulary))
        link = [LINK] if kind is Kind.CONVERSATION else []
        creates = self._creates(here, section.create)
        every = (*result.rules, *constants, *link)
        return Rules(kind, every, self.region, creates, tuple(match), initial, section.on_crm_delete)

    def _creates(self, here: KeyPath, asked: bool | None) -> bool:
        can = self.can is None or Can.CREATE in self.can
        if asked and not can:
            message = f"the connector {self.name} cannot create records"
            self.findings.problem(self.document, (*here, "create"), message)
        return can if asked is None else asked

    def _constants(self, here: KeyPath, values: Mapping[str, str], taken: set[str]) -> Iterator[FieldRule]:
        for name, value in values.items():
            if name in taken:
                self.findings.problem(self.document, (*here, name), f"the CRM field {name} is mapped already")
            taken.add(name)
            lens = Constant(value)
            yield FieldRule(f"= {value}", name, Owner.KIRIM, kirim_writable=False, kirim_lens=lens, key=f"= {name}")

    def _initial(
        self, here: KeyPath, values: Mapping[str, str], taken: set[str], vocabulary: Vocabulary
    ) -> Iterator[tuple[str, str]]:
        for name, template in values.items():
            if name in taken:
                self.findings.problem(self.document, (*here, name), f"the CRM field {name} is mapped already")
            try:
                used = [found for _, found, _, _ in string.Formatter().parse(template) if found is not None]
            except ValueError:
                self.findings.problem(self.document, (*here, name), "has a brace that is not closed; write {{ for one")
                continue
            for one in used:
                if complaint := kirim_field_problem(one, vocabulary):
                    self.findings.problem(self.document, (*here, name), f"{{{one}}} {complaint}")
            yield name, template

    def _match(self, here: KeyPath, asked: list[object], rules: list[FieldRule]) -> Iterator[MatchRule]:
        mapped = {rule.kirim: rule for rule in rules}
        aliases = {"phone": "phone_number"}
        if asked and self.can is not None and Can.FIND not in self.can:
            message = f"the connector {self.name} cannot search, so nothing can be recognised"
            self.findings.problem(self.document, (*here, "match"), message)
        for number, one in enumerate(asked):
            where = (*here, "match", number)
            if isinstance(one, str):
                rule = mapped.get(aliases.get(one, one))
                if rule is None or len(rule.right.names) != 1:
                    known = ", ".join(sorted(name for name, rule in mapped.items() if len(rule.right.names) == 1))
                    self.findings.problem(
                        self.document, where, f"{one} is not mapped to one CRM field; mapped are {known}"
                    )
                    continue
                yield MatchRule(rule.kirim, rule.crm, rule.type)
            elif (section := self.findings.section(self.document, where, MatchSection)) is not None:
                if complaint := kirim_field_problem(section.kirim, VOCABULARIES[Kind.CONTACT]):
                    self.findings.problem(self.document, (*where, "kirim"), complaint)
                yield MatchRule(section.kirim, section.crm, VOCABULARIES[Kind.CONTACT].type(section.kirim))

    def messages(self) -> Logging:
        """What of the messages is logged."""
        here = (*self.path, "messages")
        if self.document.at(here) is None:
            return Logging(Log.OFF, self.zone)
        section = self.findings.section(self.document, here, MessagesSection)
        if section is None:
            return Logging(Log.OFF, self.zone)
        if section.log is not Log.OFF and self.can is not None and Can.ACTIVITIES not in self.can:
            message = f"the connector {self.name} has no timeline to log messages on"
            self.findings.problem(self.document, (*here, "log"), message)
        return Logging(section.log, self.zone, section.bodies)

    def segments(self) -> dict[str, Rule]:
        """The segments whose members get a label, by the label."""
        found: dict[str, Rule] = {}
        asked = self.document.at((*self.path, "segments"))
        for number in range(len(asked) if isinstance(asked, list) else 0):
            here = (*self.path, "segments", number)
            section = self.findings.section(self.document, here, SegmentSection)
            if section is None:
                continue
            if section.label in found:
                message = f"the label {section.label} is managed by another segment already"
                self.findings.problem(self.document, here, message)
            found[section.label] = Rule(
                section.segment,
                section.label,
                section.create_label,
                section.remove,
                timedelta(minutes=section.dwell_minutes),
                section.most_removals,
                section.most_share,
            )
        if found and self.can is not None and Can.SEGMENTS not in self.can:
            message = f"the connector {self.name} has no segments"
            self.findings.problem(self.document, (*self.path, "segments"), message)
        return found


def spare_labels(rules: Rules, managed: frozenset[str]) -> Rules:
    """The same rules, by which labels that segments manage are neither seen nor touched."""
    spared = tuple(_sparing(rule, managed) if rule.kirim == LABELS else rule for rule in rules.fields)
    return replace(rules, fields=spared) if managed else rules


def _sparing(rule: FieldRule, managed: frozenset[str]) -> FieldRule:
    return replace(rule, kirim_lens=Without(rule.kirim_lens or Plain(LABELS), managed))
