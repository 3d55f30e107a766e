"""What a device read of a record when it decided on it: decisions joined with the plant's historian. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from toolbox import joins

_AS_SEEN = """
with own as (select * from readings where device <> '*'), every as (select * from readings where device = '*'),
seen as (
    select d.device, d.record_id, d.recorded_at, d.release, own.since, {chosen},
        own.record_id is not null or every.record_id is not null as is_known
    from decisions d
    asof left join own on d.device = own.device and d.record_id = own.record_id and d.recorded_at >= own.since
    left join every on d.record_id = every.record_id
)
select device, record_id, recorded_at, release, is_known, {names} from seen
qualify row_number() over (partition by device, record_id, since order by recorded_at) = 1
order by device, recorded_at, record_id
"""


def as_seen(decisions: pd.DataFrame, readings: pd.DataFrame, features: Sequence[str]) -> pd.DataFrame:
    """What each device read of each record when it decided on it; once for a device, unless a sensor changed between.

    ``readings`` as the historian has them (docs/sandbox.md, "The plant"): the row that held when the record was
    decided, of the device itself where it has one. ``is_known`` is false where there is none.
    """
    known = readings.assign(since=_moments(readings["since"]))
    made = decisions[["device", "record_id", "recorded_at", "release"]].assign(
        recorded_at=_moments(decisions["recorded_at"])
    )
    quoted = [f'"{name}"' for name in features]
    chosen = ", ".join(f"case when own.record_id is not null then own.{q} else every.{q} end as {q}" for q in quoted)
    sql = _AS_SEEN.format(chosen=chosen, names=", ".join(quoted))
    return joins.query(sql, {"decisions": made, "readings": known})


def _moments(column: pd.Series[Any]) -> pd.Series[Any]:
    """UTC without a zone; an empty text is the beginning of time."""
    moments = pd.to_datetime(column.replace("", "1970-01-01T00:00:00Z"), utc=True, format="ISO8601")
    return moments.dt.tz_localize(None).astype("datetime64[us]")
