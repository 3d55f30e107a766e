"""The words of a comparison of models (:mod:`toolbox.compare`), for terminals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def as_text(found: Mapping[str, Any]) -> str:
    """A table that a person reads, from the object that ``--json`` prints."""
    share = f"{found['n']:,} labelled records of {found['n_received']:,} ({_percent(found['coverage'])})"
    lines = [f"{found['verdict']}: {share}"]
    lines += ["", *(f"  {reason}" for reason in found["reasons"]), *(f"  note: {note}" for note in found["notes"]), ""]
    champion, challenger = found["champion"], found["challenger"]
    rows = [("", "champion", "challenger")]
    rows += [("macro-F1", _number(champion["macro_f1"]), _number(challenger["macro_f1"]))]
    rows += [("accuracy", _number(champion["accuracy"]), _number(challenger["accuracy"]))]
    rows += [
        (f"recall of {name}", _number(champion["recall"][name]), _number(challenger["recall"][name]))
        for name in champion["recall"]
    ]
    width = max(len(row[0]) for row in rows)
    lines += [f"{row[0]:<{width}}  {row[1]:>10}  {row[2]:>10}" for row in rows]
    for who in ("champion", "challenger"):
        lines += ["", f"confusion of the {who} (rows: truth, columns: decision)", *_confusion(found[who])]
    return "\n".join(lines)


def _confusion(scores: Mapping[str, Any]) -> list[str]:
    names = [str(name) for name in scores["classes"]]
    rows: list[Sequence[str]] = [["", *names]]
    rows += [[name, *(f"{count:,}" for count in row)] for name, row in zip(names, scores["confusion"], strict=True)]
    width = max(len(cell) for row in rows for cell in row)
    return ["  ".join(cell.rjust(width) for cell in row) for row in rows]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
