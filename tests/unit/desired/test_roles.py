"""What a role's ``meta/argument_specs.yml`` tells people agrees with what its part takes (``OPTIONS``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from twinops import desired

from sandbox.settings import CLONE

TYPE = {"type": "str", "elements": "str"}
WHOLE = {**TYPE, "required": False, "default": None}
"""What is compared, and what Ansible takes where it is left out."""


def interface(role: str) -> dict[str, Any]:
    """The options of the role that people set, by name."""
    text = (CLONE / f"roles/{role}/meta/argument_specs.yml").read_text("utf-8")
    options: dict[str, Any] = yaml.safe_load(text)["argument_specs"]["main"].get("options", {})
    return options


def wiring(role: str) -> dict[str, Any]:
    """Option of the part -> what the role's task hands over for it."""
    tasks = yaml.safe_load((CLONE / f"roles/{role}/tasks/main.yml").read_text("utf-8"))
    declared: dict[str, Any] = next(task["declare"] for task in tasks if "declare" in task)[role]
    return declared


def differences(
    public: Mapping[str, Any], private: Mapping[str, Any], where: str, compared: Mapping[str, Any]
) -> Iterator[str]:
    for key, when_absent in compared.items():
        if public.get(key, when_absent) != private.get(key, when_absent):
            yield f"{where}: {key}: the role says {public.get(key)!r}, the part {private.get(key)!r}"
    if public.get("choices") not in (None, private.get("choices")):  # long lists are the part's alone
        yield f"{where}: choices: the role and the part differ"
    inner_public, inner_private = public.get("options", {}), private.get("options", {})
    for name in sorted({*inner_public, *inner_private}):
        if name in inner_public and name in inner_private:
            yield from differences(inner_public[name], inner_private[name], f"{where}.{name}", WHOLE)
        else:
            yield f"{where}.{name}: only {'the part' if name in inner_private else 'the role'} has it"


def test_every_part_has_a_role() -> None:
    assert {role.parent.parent.name for role in CLONE.glob("roles/*/tasks/main.yml")} >= set(desired.OPTIONS)


@pytest.mark.parametrize("part", desired.OPTIONS)
def test_a_role_takes_what_its_part_takes(part: str) -> None:
    public, handed_over, found = interface(part), wiring(part), []
    for name, option in desired.OPTIONS[part].items():
        variable = f"{part}_{name}"
        if name not in handed_over:
            found.append(f"{part}: {name}: the role's task does not hand it over")
        elif variable in public:
            found += differences(public[variable], option, variable, TYPE)
            if option.get("required") and not (public[variable].get("required") or "default" in public[variable]):
                found.append(f"{variable}: the part requires it, the role has neither a default nor says so")
    unknown = handed_over.keys() - desired.OPTIONS[part]
    found += [f"{part}: {name}: handed over, and unknown to the part" for name in unknown]
    assert found == []


@pytest.mark.parametrize("part", desired.OPTIONS)
def test_the_defaults_of_a_role_are_those_that_it_documents(part: str) -> None:
    file = CLONE / f"roles/{part}/defaults/main.yml"
    defaults: dict[str, Any] = (yaml.safe_load(file.read_text("utf-8")) or {}) if file.exists() else {}
    documented = {name: option["default"] for name, option in interface(part).items() if "default" in option}
    assert defaults == {**defaults, **{name: value for name, value in documented.items() if name in defaults}}
    assert documented.keys() <= defaults.keys()
