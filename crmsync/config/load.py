"""Files → `Configuration`, or every mistake in all of them at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from zoneinfo import ZoneInfo

from pydantic import BaseModel, SecretStr

from crmsync.config import checks
from crmsync.config.checks import Found
from crmsync.config.connections import ConnectionReader, Connectors, managed_twice, owned_twice
from crmsync.config.kinds import spare_labels
from crmsync.config.model import Configuration, ConnectionConfig, DaemonConfig, LogConfig, TenantConfig
from crmsync.config.references import resolve
from crmsync.config.sections import NEVER, DaemonSection, RetentionSection, SchedulesSection, TenantSection, address
from crmsync.config.source import Document, KeyPath, Trap, files, read
from crmsync.config.validate import Findings, is_url
from crmsync.config.words import as_read, holds_secret, key_names, leaves, unknown_key
from crmsync.connector import installed
from crmsync.core.cron import Cron
from crmsync.core.mapping import Rules
from crmsync.core.schedules import POLL, RECONCILE, RETENTION, SEGMENTS, SWEEP, Schedules
from crmsync.errors import ConfigError, Problem
from crmsync.flows.retention import Retention
from crmsync.kirim.secrets import read_secrets_file
from crmsync.kirim.settings import KirimSettings
from crmsync.model import Kind

DAEMON: KeyPath = ("daemon",)
KIRIM: KeyPath = ("kirim",)
SECRETS_FILE: KeyPath = (*KIRIM, "webhook_secrets_file")
LIVE_KEY = (
    "looks like a key for real customers, which must not be used while daemon.insecure_targets is set;"
    " remove one of them"
)


def find(named: Path | None, environ: Mapping[str, str], folder: Path = Path()) -> Path:
    """Which file or folder is meant: the one named, else CRMSYNC_CONFIG, else config/ or crmsync.yaml in `folder`."""
    if named is not None:
        return named
    if environ.get("CRMSYNC_CONFIG"):
        return Path(environ["CRMSYNC_CONFIG"])
    for candidate in (folder / "config", folder / "crmsync.yaml"):
        if candidate.exists():
            return candidate
    message = (
        "no configuration found: there is neither config/ nor crmsync.yaml here;"
        " name a file or folder with --config or CRMSYNC_CONFIG"
    )
    raise ConfigError([Problem(str(folder / "crmsync.yaml"), 0, "", message)])


def load(
    path: Path,
    *,
    environ: Mapping[str, str],
    connectors: Connectors | None = None,
) -> Configuration:
    """The configuration of a file, or of a folder of files. Raises `ConfigError` with everything that is wrong.

    `connectors` are those that are installed unless given.
    """
    known = {name: point.load for name, point in installed().items()} if connectors is None else connectors
    findings = Findings()
    documents = _documents(path, environ, findings)
    daemon = _daemon(documents, findings)
    drafts = [_Draft(document, findings, known) for document in documents if _is_tenant(document)]
    tenants = [draft.read() for draft in drafts]
    _compare(drafts, findings)
    _left_over(documents, findings)
    if not tenants and not findings.problems:
        findings.problems.append(Problem(str(path), 0, "", "no tenant is configured; its file begins with `tenant:`"))
    if findings.problems:
        raise ConfigError(_ordered(findings.problems))
    complete = tuple(tenant for tenant in tenants if tenant)
    return Configuration(daemon, complete, tuple(_ordered(findings.warnings)))


def _ordered(problems: Iterable[Problem]) -> list[Problem]:
    """By file and line, none twice."""
    return sorted(dict.fromkeys(problems), key=lambda problem: (problem.file, problem.line))


def _documents(path: Path, environ: Mapping[str, str], findings: Findings) -> list[Document]:
    """Every file that could be read, its references resolved."""
    paths, problems = files(path)
    findings.problems += problems
    raw: list[Document] = []
    for each in paths:
        document, problems = read(each)
        findings.problems += problems
        raw += [document] if document else []
    findings.open_files = any(document.at((*DAEMON, "insecure_permissions")) is True for document in raw)
    documents = []
    for document in raw:
        resolved, problems = resolve(document, environ, open_files_allowed=findings.open_files)
        findings.problems += problems
        documents.append(resolved)
    return documents


def _is_tenant(document: Document) -> bool:
    """A file with only a daemon is no tenant's; any other is, if only with a mistake."""
    return "daemon" not in document.root or bool({"tenant", "kirim", "connections"} & document.root.keys())


def _daemon(documents: Sequence[Document], findings: Findings) -> DaemonConfig:
    """The daemon's section, which at most one file has; the defaults where none has it or it is wrong."""
    having = [document for document in documents if "daemon" in document.root]
    for document in having[1:]:
        first = f"{having[0].file}:{having[0].line(DAEMON)}"
        findings.problem(document, DAEMON, f"the daemon is already configured at {first}")
    if not having:
        return DaemonConfig()
    document = having[0]
    for key in document.root if not _is_tenant(document) else ():
        if key != "daemon":
            findings.problem(document, (key,), unknown_key(key, ["daemon", "tenant"]))
    section = findings.section(document, DAEMON, DaemonSection)
    targets = document.at((*DAEMON, "insecure_targets"))
    if isinstance(targets, list):  # also of a section with mistakes: they should not look like more mistakes
        findings.insecure = frozenset(target.lower() for target in targets if isinstance(target, str))
    if section is None:
        return DaemonConfig()
    _check_daemon(document, section, findings)
    return DaemonConfig(
        database=section.database,
        listen=address(section.listen),
        public_url=section.public_url and section.public_url.rstrip("/"),
        insecure_targets=findings.insecure,
        log=LogConfig(section.log.level, section.log.format),
        alert_url=section.alert_url.get_secret_value() if section.alert_url else None,
        disk_floor_mb=section.disk_floor_mb,
        metrics=address(section.metrics) if section.metrics else None,
    )


def _check_daemon(document: Document, section: DaemonSection, findings: Findings) -> None:
    place = (*DAEMON, "public_url")
    if section.public_url and (message := checks.public_url_problem(section.public_url, findings.insecure)):
        findings.problem(document, place, f"{message}, found {document.text(place)}")
    place = (*DAEMON, "alert_url")
    if section.alert_url and (message := checks.hook_problem(section.alert_url.get_secret_value(), findings.insecure)):
        findings.problem(document, place, f"{message}, found in {document.text(place)}")
    place = (*DAEMON, "database")
    if checks.literal_password(document.text(place)):
        message = "the password must not be written into this file; write postgresql://user:${NAME}@host/database"
        findings.problem(document, place, message)
    for key in ("insecure_targets", "insecure_permissions"):
        if getattr(section, key):
            findings.warnings.append(document.problem((*DAEMON, key), "is set: fit for test systems only"))


@dataclass(slots=True)
class _Draft:
    """A tenant as far as it can be read, and what must be compared with other tenants.

    `live` are keys for real customers whose target is real too.
    """

    document: Document
    findings: Findings
    connectors: Connectors
    secrets: list[Found] = field(default_factory=list)
    live: list[Found] = field(default_factory=list)

    def read(self) -> TenantConfig | None:
        """The tenant, if nothing is wrong with it."""
        section = self.findings.section(self.document, (), TenantSection)
        kirim = None
        if "kirim" in self.document.root:
            kirim = self.findings.section(self.document, KIRIM, KirimSettings)
            self._remember_secrets(KIRIM, KirimSettings)
            if kirim and kirim.webhook_secrets_file:
                kirim = self._with_secrets_file(kirim, self.document.folder / Path(kirim.webhook_secrets_file))
        zone = ZoneInfo(section.timezone if section else "UTC")
        connections = self._connections(section.region if section else None, zone)
        if section is None or kirim is None:
            return None
        self.findings.warnings += [self.document.problem(KIRIM, advice) for advice in kirim.advice()]
        return TenantConfig(
            id=section.tenant,
            file=self.document.file,
            timezone=zone,
            region=section.region,
            deliveries_per_second=section.deliveries_per_second,
            kirim=kirim,
            connections=connections,
            schedules=_schedules(section.schedules, zone),
            retention=_retention(section.retention),
        )

    def _with_secrets_file(self, kirim: KirimSettings, named: Path) -> KirimSettings | None:
        """The settings with the secrets of the file beside those of the key, and where the file really is.

        A file that is not there yet is no mistake: until a rotation writes it, nothing is believed because of it.
        """
        path = named.expanduser().absolute()
        try:
            found = read_secrets_file(path, insecure=self.findings.open_files)
        except ConfigError as error:
            self.findings.problems += error.problems
            return None
        if not found and not kirim.webhook_secrets:
            if path.exists():
                self.findings.problem(
                    self.document, SECRETS_FILE, f"the file {path} has no secret, and there is no other"
                )
                return None
            message = f"there is no file {path} yet: until there is, no delivery of Kirim is believed"
            self.findings.warnings.append(self.document.problem(SECRETS_FILE, message))
        self.secrets += [Found(self.document, SECRETS_FILE, secret.key) for secret in found]
        held = (*(secret.get_secret_value() for secret in kirim.webhook_secrets), *(secret.key for secret in found))
        secrets = tuple(SecretStr(key) for key in dict.fromkeys(held))
        return kirim.model_copy(update={"webhook_secrets": secrets, "webhook_secrets_file": str(path)})

    def _connections(self, region: str | None, zone: ZoneInfo) -> tuple[ConnectionConfig, ...]:
        names = self.document.at(("connections",))
        if not isinstance(names, dict):
            return ()
        if not names:
            self.findings.problem(self.document, ("connections",), "names no connection")
        reader = ConnectionReader(self.document, self.findings, self.connectors, region, zone, [], [])
        found = []
        for name in names:
            connection, connector = reader.read(name)
            found += [connection] if connection else []
            if connector:
                self._remember_secrets(("connections", name), connector.Settings)
        self.findings.problems += [*owned_twice(reader.owned), *managed_twice(reader.labels)]
        managed = frozenset(label for connection in found for label in connection.segments)
        return tuple(replace(each, rules=_sparing(each.rules, managed)) for each in found)

    def _remember_secrets(self, path: KeyPath, model: type[BaseModel]) -> None:
        real = not self._all_targets_insecure(path, model)
        for here, annotation, value in leaves(model, self.document.at(path), path):
            if holds_secret(annotation) and isinstance(value, str):
                found = Found(self.document, here, value)
                self.secrets.append(found)
                self.live += [found] if real and checks.LIVE.search(value) else []

    def _all_targets_insecure(self, path: KeyPath, model: type[BaseModel]) -> bool:
        """Whether whatever a section sends goes to a listed test system."""
        names = {name: field for name, field in key_names(model).items() if is_url((name,))}
        urls = [self.document.at((*path, name)) or field.get_default() for name, field in names.items()]
        return bool(urls) and all(checks.target(str(url)) in self.findings.insecure for url in urls if url)


def _schedules(section: SchedulesSection, zone: ZoneInfo) -> Schedules:
    reconcile = section.reconcile
    wanted = {
        POLL: section.poll,
        SEGMENTS: section.segments,
        SWEEP: section.sweep,
        RETENTION: section.retention,
        RECONCILE: reconcile.cron if reconcile else None,
    }
    crons = {name: Cron(text, zone) for name, text in wanted.items() if text is not None and text != NEVER}
    heal, threshold = (reconcile.heal, reconcile.threshold) if reconcile else (False, None)
    return Schedules(MappingProxyType(crons), heal, threshold)


def _retention(section: RetentionSection) -> Retention:
    days = (section.history, section.messages, section.runs, section.plans)
    return Retention(*(timedelta(days=number) for number in days))


def _sparing(rules: Mapping[Kind, Rules], managed: frozenset[str]) -> Mapping[Kind, Rules]:
    return MappingProxyType({kind: spare_labels(each, managed) for kind, each in rules.items()})


def _compare(drafts: Sequence[_Draft], findings: Findings) -> None:
    """What is wrong with files only because of other files."""
    names = [
        Found(draft.document, ("tenant",), draft.document.at(("tenant",)))
        for draft in drafts
        if isinstance(draft.document.at(("tenant",)), str)
    ]
    findings.problems += checks.same_twice(names, "the tenant is already configured at {place}")
    findings.problems += checks.same_twice(
        [found for draft in drafts for found in draft.secrets],
        "the same secret is used by another tenant at {place}; each tenant needs its own",
    )
    for found in [found for draft in drafts for found in draft.live if findings.insecure]:
        findings.problems.append(found.problem(LIVE_KEY))


def _left_over(documents: Sequence[Document], findings: Findings) -> None:
    """Traps that a type let through (`Any`): no value may be something else than it looks like."""
    said = {(problem.file, problem.line) for problem in findings.problems}
    for document in documents:
        for path in document.places:
            value = document.at(path)
            if isinstance(value, Trap) and (document.file, document.line(path)) not in said:
                message = f'found {as_read(value, value.text)}; put it in quotes: "{value.text}"'
                findings.problem(document, path, message)
