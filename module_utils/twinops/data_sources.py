"""The spec's ``data_sources``: where workflows read data that twinops does not keep, and may write summaries. Pure.

A source has a name, by which workflows ask for it, and a type: ``redshift``, ``dynamodb`` or ``s3``. What a workflow
does with it is the same for each (``workflows/toolbox/data.py``); what AWS must allow is here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol, Union

from .errors import SpecError
from .iam import Statement, allow
from .resources import Scope

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "name": {"type": "str", "required": True},
    "type": {"type": "str", "required": True, "choices": ["redshift", "dynamodb", "s3"]},
    "cluster": {"type": "str"},
    "db_user": {"type": "str"},
    "workgroup": {"type": "str"},
    "workgroup_id": {"type": "str"},
    "database": {"type": "str"},
    "table": {"type": "str"},
    "index": {"type": "str"},
    "bucket": {"type": "str"},
    "prefix": {"type": "str"},
    "writable": {"type": "bool"},
}
"""One source, as an argument spec of Ansible. Which options go together, :func:`parse` knows."""

LIST = {"type": "list", "elements": "dict", "options": OPTIONS, "default": []}
"""Argument spec of all sources."""

_RUN_SQL = ["redshift-data:BatchExecuteStatement", "redshift-data:ExecuteStatement"]
"""A batch is one transaction, which is how a summary replaces its rows."""

NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


class Source(Protocol):
    """One place that workflows may read."""

    @property
    def name(self) -> str: ...
    def as_dict(self) -> dict[str, Any]:
        """What ``twin.json`` says of it, under its name."""

    def statements(self, scope: Scope) -> list[Statement]:
        """What reading it takes, and nothing else."""


@dataclass(frozen=True)
class RedshiftCluster:
    """A database of a cluster, by the Data API and with passwords that IAM makes for ``db_user``.

    What that user may read and write there is said by the database's own grants.
    """

    required: ClassVar[tuple[str, ...]] = ("cluster", "database", "db_user")
    optional: ClassVar[tuple[str, ...]] = ()

    name: str
    cluster: str
    database: str
    db_user: str

    def as_dict(self) -> dict[str, Any]:
        return _described("redshift", self)

    def statements(self, scope: Scope) -> list[Statement]:
        log_in = [
            scope.arn("redshift", f"dbname:{self.cluster}/{self.database}"),
            scope.arn("redshift", f"dbuser:{self.cluster}/{self.db_user}"),
        ]
        return [
            allow(
                f"Query{_title(self.name)}",
                _RUN_SQL,
                [scope.arn("redshift", f"cluster:{self.cluster}")],
            ),
            allow(f"LogInTo{_title(self.name)}", ["redshift:GetClusterCredentials"], log_in),
        ]


@dataclass(frozen=True)
class RedshiftWorkgroup:
    """A database of Redshift Serverless, by the Data API; the database user is the twin's role (``IAMR:<role>``).

    ``workgroup_id`` is what AWS made up (``aws redshift-serverless get-workgroup``): its ARN has no name.
    """

    required: ClassVar[tuple[str, ...]] = ("workgroup", "workgroup_id", "database")
    optional: ClassVar[tuple[str, ...]] = ()

    name: str
    workgroup: str
    workgroup_id: str
    database: str

    def as_dict(self) -> dict[str, Any]:
        return {key: value for key, value in _described("redshift", self).items() if key != "workgroup_id"}

    def statements(self, scope: Scope) -> list[Statement]:
        workgroup = [scope.arn("redshift-serverless", f"workgroup/{self.workgroup_id}")]
        return [
            allow(f"Query{_title(self.name)}", _RUN_SQL, workgroup),
            allow(f"LogInTo{_title(self.name)}", ["redshift-serverless:GetCredentials"], workgroup),
        ]


@dataclass(frozen=True)
class DynamoDbTable:
    """A table, or one of its indexes, read as a whole; ``writable``: a table that summaries are written to."""

    required: ClassVar[tuple[str, ...]] = ("table",)
    optional: ClassVar[tuple[str, ...]] = ("index", "writable")

    name: str
    table: str
    index: str = ""
    writable: bool = False

    def as_dict(self) -> dict[str, Any]:
        return _described("dynamodb", self)

    def statements(self, scope: Scope) -> list[Statement]:
        table = f"table/{self.table}"
        place = scope.arn("dynamodb", f"{table}/index/{self.index}" if self.index else table)
        read = allow(f"Read{_title(self.name)}", ["dynamodb:Query", "dynamodb:Scan"], [place])
        if not self.writable:
            return [read]
        # Replacing rows is one transaction of puts and deletes; the names of the keys are asked for.
        write = [f"dynamodb:{action}" for action in ("DescribeTable", "PutItem", "DeleteItem")]
        return [read, allow(f"Write{_title(self.name)}", write, [scope.arn("dynamodb", table)])]


@dataclass(frozen=True)
class S3Prefix:
    """Files below a prefix of a bucket: ``<prefix><relation>.csv``, ``.jsonl``, also with ``.gz``.

    ``writable``: summaries are written there, as Parquet.
    """

    required: ClassVar[tuple[str, ...]] = ("bucket",)
    optional: ClassVar[tuple[str, ...]] = ("prefix", "writable")

    name: str
    bucket: str
    prefix: str = ""
    writable: bool = False

    def as_dict(self) -> dict[str, Any]:
        return _described("s3", self)

    def statements(self, scope: Scope) -> list[Statement]:
        bucket = f"arn:{scope.partition}:s3:::{self.bucket}"
        below = {"StringLike": {"s3:prefix": f"{self.prefix}*"}}
        return [
            allow(f"List{_title(self.name)}", ["s3:ListBucket"], [bucket], below),
            allow(
                f"{'Keep' if self.writable else 'Read'}{_title(self.name)}",
                ["s3:GetObject", *(["s3:PutObject"] if self.writable else [])],
                [f"{bucket}/{self.prefix}*"],
            ),
        ]


_Kind = Union[type[RedshiftCluster], type[RedshiftWorkgroup], type[DynamoDbTable], type[S3Prefix]]


def parse(listed: Iterable[Mapping[str, Any]]) -> tuple[Source, ...]:
    """The sources of a spec, in the order of their names. Raises SpecError with every mistake of every source."""
    mistakes: list[str] = []
    found: dict[str, Source] = {}
    for given in listed:
        options = {key: value for key, value in given.items() if value is not None}
        name = str(options.pop("name"))
        kind = _kind(options.pop("type"), options)
        wrong = _mistakes(name, kind, options)
        if name in found:
            wrong.append("name: expected one that is not used yet")
        mistakes += [f"data_sources: {name}: {mistake}" for mistake in wrong]
        if not wrong:
            found[name] = kind(name=name, **options)
    if mistakes:
        raise SpecError(mistakes)
    return tuple(found[name] for name in sorted(found))


def check_known(wanted: Iterable[str], known: Collection[str], where: str) -> list[str]:
    """A mistake for each of the ``wanted`` names that is not ``known``."""
    offered = ", ".join(sorted(known)) or "none (roles/data_access declares them)"
    return [f"{where}: data_sources: expected some of {offered}; got {name}" for name in wanted if name not in known]


def statements(scope: Scope, sources: Sequence[Source]) -> list[Statement]:
    """What reading all the sources takes."""
    needed = [statement for source in sources for statement in source.statements(scope)]
    if any(isinstance(source, (RedshiftCluster, RedshiftWorkgroup)) for source in sources):
        needed.append(_own_statements())
    return needed


def _own_statements() -> Statement:
    """Statements of the Data API have no ARN: AWS lets a principal see only its own ones by this condition."""
    own = {"StringEquals": {"redshift-data:statement-owner-iam-userid": "${aws:userid}"}}
    actions = ["redshift-data:DescribeStatement", "redshift-data:GetStatementResult"]
    return allow("ReadOwnStatements", actions, ["*"], own)


def _kind(type_name: str, options: Mapping[str, Any]) -> _Kind:
    if type_name == "redshift":
        return RedshiftWorkgroup if "workgroup" in options else RedshiftCluster
    return DynamoDbTable if type_name == "dynamodb" else S3Prefix


def _mistakes(name: str, kind: _Kind, options: Mapping[str, Any]) -> list[str]:
    mistakes = [] if NAME.fullmatch(name) else [f"name: expected {NAME.pattern}"]
    missing = [option for option in kind.required if not options.get(option)]
    surplus = sorted(options.keys() - {*kind.required, *kind.optional})
    takes = ", ".join((*kind.required, *(f"[{option}]" for option in kind.optional)))
    mistakes += [f"{option}: expected a value; a {kind.__name__} takes {takes}" for option in missing]
    return mistakes + [f"{option}: not for a {kind.__name__}, which takes {takes}" for option in surplus]


def _described(type_name: str, source: Any) -> dict[str, Any]:
    values = {key: value for key, value in asdict(source).items() if key not in ("name", "writable") and value}
    return {"type": type_name, **values}


def _title(name: str) -> str:
    """A name as a part of a Sid, which has letters and digits only."""
    return "".join(word.capitalize() for word in name.split("_"))
