"""Groups of devices and features: who belongs where, and files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from toolbox import groups
from toolbox.groups import GroupsError


def test_a_member_belongs_to_the_first_group_that_names_it() -> None:
    named = {"a": ["f1*"], "b": ["f1", "f2"]}
    assert [groups.group_of(name, named) for name in ("f1", "f12", "f2", "f3")] == ["a", "a", "b", "others"]


def test_a_file_keeps_its_order_and_an_empty_one_has_no_groups(tmp_path: Path) -> None:
    file = tmp_path / "groups.yml"
    file.write_text("south: [device-2*]\nnorth: [device-1*, device-3]\n")
    assert list(groups.load(file).items()) == [("south", ["device-2*"]), ("north", ["device-1*", "device-3"])]
    file.write_text("---\n# none yet\n")
    assert groups.load(file) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("levels: f1", r"levels: expected a list of patterns such as \[device-0\*\], got 'f1'"),
        ("levels: [f1, 2]", r"levels: expected a list of patterns .*, got \['f1', 2\]"),
        ("[f1, f2]", "expected names of groups, each with a list of patterns, got"),
        ("1: [f1]", "1: expected the name of a group, as text"),
        ("levels: [", "expected groups: while parsing"),
    ],
    ids=["text", "number", "list", "name", "yaml"],
)
def test_a_file_of_something_else_is_named(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "groups.yml"
    file.write_text(content)
    with pytest.raises(GroupsError, match=rf"groups\.yml: {message}"):
        groups.load(file)
