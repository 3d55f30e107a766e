"""Reads the workflow specs of a work tree, and says everything that is wrong with any of them.

``python -m twinops.spec_files [WORK_TREE]`` only checks them (``make lint``). This is the one file of the core that
needs PyYAML: Ansible's side, the toolbox and the linter, which have it, read specs alike by it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from .errors import SpecError, TwinopsError
from .spec import Workflow, parse_workflow

SPEC_FILE = "workflow.yml"

SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where libyaml is there


class StrictLoader(SafeLoader):  # type: ignore[misc]
    """Refuses a key that is given twice, of which YAML silently keeps the last; says where a value is that it cannot
    make, such as the 31st of June."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue  # which is refused below
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key_node.value} is given twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from error


def load_workflows(root: Path) -> tuple[Workflow, ...]:
    """The workflows of a work tree, by name.

    :raises SpecError: every mistake of every spec, and of every lock that they ask for, or there is no workflow
    """
    workflows: list[Workflow] = []
    mistakes: list[str] = []
    for spec in sorted(root.glob(f"workflows/*/{SPEC_FILE}")):
        try:
            workflows.append(load_workflow(root, spec.parent.name))
        except SpecError as error:
            mistakes += error.mistakes
    if mistakes:
        raise SpecError(dict.fromkeys(mistakes))  # those of the lock that workflows share are told once
    if not workflows:
        raise SpecError([f"{root}/workflows: expected at least one folder with a {SPEC_FILE}, found none"])
    return tuple(workflows)


def load_workflow(root: Path, name: str, *, with_lock: bool = True) -> Workflow:
    """A workflow of a work tree; ``with_lock``: the content of its lock is checked as well.

    :raises SpecError: every mistake of the spec
    """
    where = f"workflows/{name}/{SPEC_FILE}"
    data = load_yaml(root / where, where)

    def read_lock(path: str) -> str | None:
        lock = root / path
        return lock.read_bytes().decode("utf-8", "replace") if lock.is_file() else None

    files = {path.name for path in (root / where).parent.iterdir()}
    try:
        return parse_workflow(data, where, files, read_lock if with_lock else None)
    except RecursionError as error:  # an alias that contains itself
        raise SpecError([f"{where}: expected values that end, one is nested in itself"]) from error


def load_yaml(path: Path, where: str) -> object:
    """The content of a YAML file; ``where`` names it in messages.

    :raises SpecError: it cannot be read, is not UTF-8 or not YAML, with line and column
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise SpecError([f"{where}: expected a file that can be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        line, column = _position(error.object[: error.start].decode("utf-8"))
        message = f"expected UTF-8, got the byte 0x{error.object[error.start]:02x}"
        raise SpecError([f"{where}:{line}:{column}: {message}"]) from error
    try:
        return yaml.load(text, StrictLoader)  # noqa: S506  (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{mark.line + 1}:{mark.column + 1}:" if mark else ""
        raise SpecError([f"{where}:{place} not valid YAML: {error.problem}"]) from error
    except yaml.reader.ReaderError as error:
        raise SpecError([f"{where}:{_unprintable(text)}"]) from error
    except RecursionError as error:
        raise SpecError([f"{where}: not valid YAML: nested too deeply"]) from error


def _unprintable(text: str) -> str:
    """Where the first character is that YAML does not allow, which its two readers count differently."""
    match = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if match is None:
        return " not valid YAML"
    line, column = _position(text[: match.start()])
    return f"{line}:{column}: not valid YAML: the character U+{ord(match[0]):04X} is not allowed"


def _position(before: str) -> tuple[int, int]:
    """Line and column of what comes after a text, from 1."""
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def main(arguments: list[str]) -> int:
    """Check the specs of a work tree; every mistake goes to standard error."""
    root = Path(arguments[0] if arguments else ".")
    try:
        found = load_workflows(root)
    except TwinopsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{len(found)} workflow specs are right: {', '.join(each.name for each in found)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
