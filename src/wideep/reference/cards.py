"""Cards: YAML files that describe a model or a GPU, those of the project and an operator's own beside them.

An operator's card goes before the project's of the same name. A card is judged where it is used, and nowhere
else: a broken one disturbs no plan that has nothing to do with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from wideep.problems import Problem, suggest
from wideep.reference.paths import configs_dir
from wideep.wording import explain

Card = TypeVar("Card", bound=BaseModel)
SUFFIXES = (".yml", ".yaml")
# libyaml's, where PyYAML has it: ten times as fast.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Of documentation, as Ansible has it.
MARKUP = re.compile(r"\b[CV]\(([^()]*)\)")


@dataclass(frozen=True)
class Shelf(Generic[Card]):
    """All cards of one kind.

    kind: what a file has to be. folder: its place below `configs/` and below a directory of the operator's.
    what: how messages name one. describes: where its fields are documented.
    """

    kind: type[Card]
    folder: str
    what: str
    describes: str

    def files(self, places: Iterable[str | Path] = ()) -> dict[str, Path]:
        """Return name -> file. places: an operator's directories that may have `folder`; the first wins."""
        found: dict[str, Path] = {}
        for place in (*map(Path, places), configs_dir()):
            for path in sorted(p for p in _entries(place / self.folder) if p.suffix in SUFFIXES):
                found.setdefault(path.stem, path)
        return found

    def read(self, path: Path) -> tuple[Card | None, list[Problem]]:
        """Return the card in a file, or the one problem that names every field that is wrong."""
        try:
            return _validated(self.kind, path, path.stat().st_mtime_ns), []
        except ValidationError as error:
            return None, [self._problem(path, error)]
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{path}:{mark.line + 1}" if mark else str(path)
            reason = getattr(error, "problem", None) or "it cannot be read"
            return None, [Problem(f"not valid YAML: {reason}", where, "correct it there, or just before")]
        except (OSError, UnicodeDecodeError) as error:
            return None, [Problem(f"cannot be read: {error}", str(path), "make it a readable UTF-8 file")]

    def find(self, name: str, places: Iterable[str | Path], where: str) -> tuple[Card | None, list[Problem]]:
        """Return the card of a file's name, and what is wrong. where: the variable that names it."""
        files = self.files(places)
        if name in files:
            return self.read(files[name])
        return None, [Problem(f"there is no {self.what} card '{name}'", where, suggest(name, files))]

    def holding(
        self, places: Iterable[str | Path], wanted: Callable[[Mapping[str, Any]], bool]
    ) -> tuple[Path | None, list[Path]]:
        """Return the first file whose content is wanted, and those that are no YAML mapping."""
        unread = []
        for path in self.files(places).values():
            try:
                content = _content(path, path.stat().st_mtime_ns)
            except (OSError, UnicodeDecodeError, yaml.YAMLError):
                content = None
            if not isinstance(content, Mapping):
                unread.append(path)
            elif wanted(content):
                return path, unread
        return None, unread

    def contents(self) -> list[Mapping[str, Any]]:
        """Return what the project's own files have, not validated."""
        return [_content(path, path.stat().st_mtime_ns) for path in self.files().values()]

    def all(self) -> dict[str, Card]:
        """Return the project's own cards by name. Raises ValidationError for a broken one."""
        return {
            name: _validated(self.kind, path, path.stat().st_mtime_ns) for name, path in self.files().items()
        }

    def _problem(self, path: Path, error: ValidationError) -> Problem:
        missing, wrong, remedies = [], [], []
        for item in error.errors():
            place = [str(part) for part in item["loc"]]
            name = ".".join(place)
            if item["type"] == "missing":
                missing.append(name)
                field = self._fields(place[:-1]).get(place[-1])
                said = MARKUP.sub(r"\1", field.description or "").rstrip(".") if field else ""
                remedies.append(f"write `{name}`" + (f" ({said})" if said else ""))
            elif item["type"] == "extra_forbidden":
                wrong.append(f"a card has no field `{name}`")
                remedies.append(f"for `{name}`: {suggest(place[-1], self._fields(place[:-1]))}")
            else:
                message, wanted = explain(item)
                wrong.append(f"`{name}`: {message}" if name else message)
                remedies.append(f"`{name}`: {wanted}" if name and wanted else wanted)
        if missing:
            wrong.insert(0, f"{', '.join(f'`{name}`' for name in missing)} {_is(missing)} missing")
        described = f"{self.describes} describes the fields"
        return Problem("; ".join(wrong), str(path), "; ".join([*filter(None, remedies), described]))

    def _fields(self, place: Sequence[str]) -> Mapping[str, Any]:
        """Return the fields that stand at a place of a card."""
        model: Any = self.kind
        for part in place:
            field = model.model_fields.get(part)
            kinds = [field.annotation, *getattr(field.annotation, "__args__", ())] if field else []
            inner = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
            if not inner:
                return {}
            model = inner[0]
        return dict(model.model_fields)


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _entries(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_file()]
    except OSError:
        return []


@lru_cache(maxsize=512)
def _content(path: Path, _changed: int) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)  # noqa: S506  a safe one


@lru_cache(maxsize=512)
def _validated(kind: type[Card], path: Path, changed: int) -> Card:
    return kind.model_validate(_content(path, changed))
