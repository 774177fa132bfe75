"""One section of a file against its model: collects what is wrong with it, and hands back the model if nothing is.

Also holds what every section is checked for whatever it is about: secrets, addresses, booleans for numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from crmsync.config import checks
from crmsync.config.source import Broken, Document, KeyPath, Trap
from crmsync.config.words import expected, holds_secret, key_names, leaves, parts, problems_of
from crmsync.errors import Problem

M = TypeVar("M", bound=BaseModel)

KIRIM_PATHS = ("", "/v1")
WEBHOOK_SECRETS: KeyPath = ("kirim", "webhook_secrets")
WRITTEN_OUT = (
    "a secret must not be written into this file; put it into an environment variable and write ${NAME},"
    " or into a file of its own and write ${file:path}"
)


@dataclass(slots=True)
class Findings:
    """What one load has found so far. `insecure` are the targets that the daemon's section allows.

    `open_files` says whether it accepts secret files that others can read.
    """

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    insecure: frozenset[str] = frozenset()
    open_files: bool = False

    def problem(self, document: Document, path: KeyPath, message: str) -> None:
        """Collects a mistake."""
        self.problems.append(document.problem(path, message))

    def section(
        self,
        document: Document,
        path: KeyPath,
        model: type[M],
        known: Iterable[str] = (),
        *,
        only: bool = False,
    ) -> M | None:
        """The keys and values at a path as a model; None if something is wrong with them.

        `known` are keys that others read: they are left out. With `only` so is everything the model lacks.
        """
        if not self._is_mapping(document, path):
            return None
        self._check_values(document, path, model)
        own, others = key_names(model), frozenset(known)
        value = {key: inner for key, inner in document.at(path).items() if key in own or not (only or key in others)}
        try:
            return model.model_validate(value)
        except ValidationError as error:
            self.problems += problems_of(document, path, model, error, others)
        except (TypeError, AttributeError) as error:
            # A connector's own validator that did not expect another type than its own.
            message = f"the settings cannot be understood ({type(error).__name__} in {model.__name__})"
            self.problem(document, path, message)
        return None

    def _is_mapping(self, document: Document, path: KeyPath) -> bool:
        value = document.at(path)
        if not isinstance(value, dict | Broken):
            found = "nothing" if value is None else "a list" if isinstance(value, list) else "a single value"
            self.problem(document, path, f"must be keys and values, found {found}")
        return isinstance(value, dict)

    def _check_values(self, document: Document, path: KeyPath, model: type[BaseModel]) -> None:
        """What is wrong with single values whatever the model says; they are silenced for the model."""
        for here, annotation, value in list(leaves(model, document.at(path), path)):
            if value is None or isinstance(value, Broken):
                continue
            if isinstance(value, bool) and not self._may_be_boolean(annotation):
                # pydantic takes true for 1.
                document.put(here, Trap(str(value).lower()))
            elif message := self._complaint(document, here, annotation, value):
                self.problem(document, here, message)
                document.put(here, Broken())

    def _may_be_boolean(self, annotation: Any) -> bool:
        return bool in parts(annotation) or "number" not in expected(annotation)

    def _complaint(self, document: Document, here: KeyPath, annotation: Any, value: object) -> str | None:
        if holds_secret(annotation):
            return self._secret(document, here, str(value))
        if is_url(here) and here[0] != "daemon" and isinstance(value, str):
            paths = KIRIM_PATHS if here[0] == "kirim" else None
            message = checks.url_problem(value, self.insecure, paths)
            return message and f"{message}, found {document.text(here)}"
        return None

    def _secret(self, document: Document, here: KeyPath, value: str) -> str | None:
        """Secrets come from outside the file, and look like secrets."""
        if here not in document.referenced:
            return WRITTEN_OUT
        message = checks.secret_problem(value)
        if here[:2] == WEBHOOK_SECRETS:
            message = message or checks.signing_secret_problem(value)
        return message and f"{message}, found in {document.text(here)}"


def is_url(path: KeyPath) -> bool:
    """Settings that say where requests go are known by their name."""
    name = str(path[-1])
    return name == "url" or name.endswith("_url")
