"""Loads a spec: reads, merges, checks it whole, and resolves it to what will run.

Promises:
- everything that is wrong is told at once, in the order of the files' lines, each with file, line, column and field;
- what comes out holds only what the user set (and the name), in one canonical form: the same spec written otherwise
  resolves to the same bytes;
- a variable is named in it, `${env:NAME}`, and its value is nowhere;
- for any file, text or argument it returns a spec or raises SpecError, nothing else.

A relative `data` path starts at the file that holds it; from `--set`, at the current folder. A `model` that is a file
there becomes absolute too, any other model is a name that Ultralytics knows (`launcher.spec.sources`).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from launcher.errors import Problem, SpecError
from launcher.spec import attached
from launcher.spec.arguments import Arguments
from launcher.spec.attached import KINDS, KNOWN, PREPARE, REEF
from launcher.spec.merge import COMMAND, Files, override, resolved
from launcher.spec.model import (
    NAME_LENGTH,
    NOT_BUILT_YET,
    PATTERN_MEANINGS,
    SECTIONS,
    JobSpec,
    known_fields,
    reef_errors,
)
from launcher.spec.options import Options, settled
from launcher.spec.sources import with_paths
from launcher.spec.tree import Item, Place, plain, read_yaml, scalar
from launcher.spec.variables import check_text
from launcher.spec.wording import Path as FieldPath
from launcher.spec.wording import did_you_mean, dotted, from_pydantic, place_of

_TEXT_FIELDS: tuple[tuple[str, ...], ...] = (
    *((name,) for name in ("name", "model", "data", "notes")),
    ("parity", "against"),
    *(("environment", name) for name in ("ultralytics", "torch")),
    *(("data", name) for name in (*KINDS, PREPARE)),
)
_MAY_BE_EMPTY = frozenset({"train", *SECTIONS})


@dataclass(frozen=True)
class LoadedSpec:
    """A spec that holds, and where it came from."""

    spec: JobSpec
    files: tuple[Path, ...]
    """The files it was read from, its own first."""
    resolved: dict[str, Any] = field(repr=False)
    """What the user set, merged, as plain JSON values; `${env:NAME}` stays a reference."""

    def yaml_text(self) -> str:
        """`resolved` as the text of a spec.yaml; equal specs give equal bytes."""
        return to_yaml(self.resolved)

    def experiment_text(self) -> str:
        """The same without what is only compared afterwards: what a bundle carries, so that its digest is that of the
        experiment."""
        return to_yaml({name: value for name, value in self.resolved.items() if name != "parity"})


def load_spec(
    path: Path,
    overrides: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    arguments: Arguments | None = None,
    options: Options = dict,
) -> LoadedSpec:
    """Read the spec at `path` with `--set` arguments over it. Raises SpecError with all that is wrong.

    `env` is where the variables that it names are looked up (default: os.environ); `arguments` the Ultralytics whose
    train arguments are taken (default: the installed one); `options` what backends declare under `resources`.
    """
    env = os.environ if env is None else env
    files = Files()
    tree = files.load(path)
    problems = files.problems
    if tree is None:
        raise SpecError(_ordered(problems, files))
    if _is_dataset(tree):
        text = f"this is a dataset, not a spec: write `data: {path}` in a spec"
        raise SpecError([Problem(text, str(path), 1, 1)])
    for argument in overrides:
        tree, more = override(tree, argument, Path.cwd())
        problems.extend(more)
    tree = _canonical(_named(tree, path))
    arguments = arguments or Arguments()
    texts = list(_check_texts(tree, env))
    tree, paths = with_paths(tree, env, arguments.package)
    tree, odd = settled(tree, options)
    # What is wrong as a text is told once, and its value not at all.
    told = {problem.field for problem in texts}
    others = (*paths, *odd, *_check_train(tree, arguments), *_check_reef(tree), *_check_attached(tree))
    problems.extend((*texts, *(problem for problem in others if problem.field not in told)))
    values = _resolved(tree, arguments if not problems else None)
    spec, more = _validate(values, tree, problems)
    problems.extend(more)
    if spec is None or problems:
        raise SpecError(_ordered(problems, files))
    return LoadedSpec(spec, tuple(files.read), values)


def parse_resolved(values: Mapping[str, Any]) -> JobSpec:
    """The spec of a run, read back from its spec.yaml. Raises SpecError; looks up no variable and no Ultralytics."""
    try:
        return JobSpec.model_validate(dict(values))
    except ValidationError as error:
        nowhere = Item({}, Place("spec.yaml"), Path())
        raise SpecError(_told(error, nowhere)) from None


def read_resolved(text: str) -> JobSpec:
    """The same from the text of a spec.yaml. Raises SpecError."""
    item, problems = read_yaml(text, Place("spec.yaml", 1, 1), Path())
    if item is None or problems:
        raise SpecError(problems)
    return parse_resolved(plain(item))


def to_yaml(values: Mapping[str, Any]) -> str:
    """Plain values as YAML that every reader takes for the same, by the rules of 1.1 and of 1.2."""
    return str(yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=sys.maxsize))


_RISKY = re.compile("^[-+.]?[0-9]|[^\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd]")
"""Texts that look like a number to some reader, or hold what a reader may take for the end of a line."""


class _Dumper(yaml.SafeDumper):
    """Quotes every text that some reader would take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    risky = not isinstance(scalar(text), str) or _RISKY.search(text)
    style = '"' if risky else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def _is_dataset(tree: Item) -> bool:
    """Whether it is a data.yaml: it says where images lie, and nothing that a spec must say."""
    names = tree.mapping.keys()
    train = tree.mapping.get("train")
    splits = "val" in names and train is not None and not isinstance(train.value, dict)
    return not names & {"model", "data"} and (splits or bool(names & {"names", "nc"}))


def _named(tree: Item, path: Path) -> Item:
    """With the name that the file gives it, where it has none of its own."""
    name = tree.mapping.get("name")
    if name is not None and name.value is not None:
        return tree
    slug = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:NAME_LENGTH].strip("-") or "run"
    return replace(tree, value={**tree.mapping, "name": Item(slug, tree.place, tree.base, text=slug)})


def _canonical(tree: Item) -> Item:
    """Without nulls in our own fields, empty sections as empty mappings, and text where text is wanted."""
    values = {name: item for name, item in tree.mapping.items() if item.value is not None}
    for name in (*SECTIONS, "data"):
        if name in values and isinstance(values[name].value, dict):
            values[name] = _without_nulls(values[name])
    canonical = replace(tree, value=values)
    for path in _TEXT_FIELDS:
        canonical = _as_text(canonical, path)
    variables = canonical.at(("environment", "variables"))
    for name in variables.mapping if variables is not None else ():
        canonical = _as_text(canonical, ("environment", "variables", name))
    return canonical


def _without_nulls(item: Item) -> Item:
    if not isinstance(item.value, dict):
        return item
    kept = {name: _without_nulls(inner) for name, inner in item.value.items() if inner.value is not None}
    return replace(item, value=kept)


def _as_text(item: Item, path: tuple[str, ...]) -> Item:
    """With the scalar at a path as it was written: `torch: 2.10` is no number, `DEBUG: on` no truth value."""
    if not path:
        return replace(item, value=item.text) if item.text is not None and item.value is not None else item
    inner = item.mapping.get(path[0])
    if inner is None:
        return item
    return replace(item, value={**item.mapping, path[0]: _as_text(inner, path[1:])})


def _check_train(tree: Item, arguments: Arguments) -> Iterator[Problem]:
    train = tree.at(("train",))
    for name, item in (train.mapping if train is not None else {}).items():
        unknown = name not in arguments.names
        place = place_of(tree, ("train", name), key=unknown)
        if (message := arguments.check(name, plain(item))) is not None:
            yield Problem(message, *place, field=f"train.{name}")


def _check_texts(tree: Item, env: Mapping[str, str]) -> Iterator[Problem]:
    for path, item in _leaves(tree, ()):
        yield from check_text(path, item, env)


def _leaves(item: Item, path: FieldPath) -> Iterator[tuple[FieldPath, Item]]:
    if isinstance(item.value, dict):
        for name, inner in item.value.items():
            yield from _leaves(inner, (*path, name))
    elif isinstance(item.value, list):
        for index, inner in enumerate(item.value):
            yield from _leaves(inner, (*path, index))
    else:
        yield path, item


def _check_reef(tree: Item) -> Iterator[Problem]:
    reef = tree.at(("data", "reef"))
    if reef is None or not isinstance(reef.value, dict):
        return
    known = known_fields()["data.reef"]
    for name, message in reef_errors(plain(reef)).items():
        path = ("data", "reef", name)
        place = place_of(tree, path, key=message is None)
        remedy = (did_you_mean(name, known) or f"known: {', '.join(known)}") if message is None else None
        yield Problem(message or f"there is no field {name!r}", *place, field=dotted(path), remedy=remedy)


def _check_attached(tree: Item) -> Iterator[Problem]:
    data = tree.at(("data",))
    if data is None or not isinstance(data.value, dict) or set(data.value) == {REEF}:
        return
    for name, fault in attached.wrong(plain(data)).items():
        path = ("data", name) if name else ("data",)
        yield Problem(fault.message, *place_of(tree, path, key=fault.key), field=dotted(path), remedy=fault.remedy)


def _resolved(tree: Item, arguments: Arguments | None) -> dict[str, Any]:
    """Plain values in one order: ours as the model has them, arguments and variables by name."""
    values = plain(tree)
    order = list(JobSpec.model_fields)
    values = {name: values[name] for name in sorted(values, key=lambda one: _rank(order, one))}
    for name, names in SECTIONS.items():
        if isinstance(section := values.get(name), dict):
            order = list(names)
            values[name] = {key: section[key] for key in sorted(section, key=lambda one: _rank(order, one))}
    if isinstance(data := values.get("data"), dict):
        values["data"] = {key: data[key] for key in sorted(data, key=lambda one: _rank(list(KNOWN), one))}
    if isinstance(train := values.get("train"), dict):
        coerce = arguments.coerce if arguments is not None else lambda _, value: value
        values["train"] = {name: coerce(name, train[name]) for name in sorted(train)}
    for outer, inner in (("environment", "variables"), ("data", "reef")):
        section = values.get(outer)
        if isinstance(section, dict) and isinstance(named := section.get(inner), dict):
            section[inner] = dict(sorted(named.items()))
    return {name: value for name, value in values.items() if value != {} or name not in _MAY_BE_EMPTY}


def _rank(order: list[str], name: str) -> tuple[int, str]:
    return (order.index(name) if name in order else len(order), name)


def _validate(values: dict[str, Any], tree: Item, found: list[Problem]) -> tuple[JobSpec | None, list[Problem]]:
    """The spec, or the problems that are not found already."""
    try:
        return JobSpec.model_validate(values), []
    except ValidationError as error:
        told = {problem.field or "" for problem in found}
        problems = _told(error, tree)
        return None, [one for one in problems if not any(_covers(field, one.field or "") for field in told)]


def _covers(told: str, name: str) -> bool:
    """Whether a problem of one field makes another's superfluous: the same field, or one below it in train or reef."""
    if told == name:
        return True
    if name in ("data", "data.reef"):
        return told.startswith(f"{name}.")
    return told.startswith("train.") and name.startswith(told)


def _told(error: ValidationError, tree: Item) -> list[Problem]:
    errors = error.errors(include_url=False, include_input=False)
    return from_pydantic(errors, tree, known_fields(), PATTERN_MEANINGS, NOT_BUILT_YET)


def _ordered(problems: list[Problem], files: Files) -> list[Problem]:
    """By file as they were read, then by line; those of the command last; each once."""
    order = {str(path): index for index, path in enumerate(files.read)}

    def key(problem: Problem) -> tuple[int, int, int]:
        late = len(order) + (problem.file == COMMAND)
        file = order.get(str(resolved(Path(problem.file))), late) if problem.file else late
        return file, problem.line or 0, problem.column or 0

    return sorted(dict.fromkeys(problems), key=key)
