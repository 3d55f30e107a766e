"""Drift of tables: what is found, and what is not."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toolbox import drift
from toolbox.drift import Drift

N = 2000


def normal(seed: int, **columns: Any) -> pa.Table:
    """Three columns of normal numbers and a category, some replaced."""
    random = np.random.default_rng(seed)
    table = {f"f{n}": random.normal(10, 2, N) for n in (1, 2, 3)}
    table["site"] = random.choice(["north", "south", "west"], N, p=[0.5, 0.3, 0.2])
    return pa.table({**table, **columns})


REFERENCE = normal(1)


def feature(found: Drift, name: str) -> drift.Feature:
    return next(one for one in found.features if one.name == name)


def test_nothing_changed() -> None:
    found = drift.compare(REFERENCE, normal(2))
    assert (found.verdict, found.drifted, found.constant, found.missing) == ("none", [], [], {})
    assert [one.kind for one in found.features] == ["number"] * 3 + ["category"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("f1", np.random.default_rng(3).normal(11, 2, N)),
        ("f1", np.random.default_rng(3).normal(10, 3, N)),
        ("f2", 1000 * np.random.default_rng(3).normal(10, 2, N)),
        ("site", np.random.default_rng(3).choice(["north", "south", "west"], N, p=[0.4, 0.3, 0.3])),
        ("site", np.random.default_rng(3).choice(["north", "south", "east"], N, p=[0.5, 0.3, 0.2])),
    ],
    ids=["mean", "spread", "unit", "shares", "new category"],
)
def test_a_change_is_drift_of_that_column_alone(name: str, values: np.ndarray) -> None:
    found = drift.compare(REFERENCE, normal(2, **{name: values}))
    assert (found.verdict, found.drifted) == ("drift", [name])


def test_categories_that_the_reference_does_not_have_are_named() -> None:
    random = np.random.default_rng(3)
    found = drift.compare(REFERENCE, normal(2, site=random.choice(["north", "east"], N)))
    assert feature(found, "site").unseen == ("east",)


def test_a_column_of_serial_numbers_says_nothing_and_is_not_listed() -> None:
    serial = [[f"{prefix}{n}" for n in range(N)] for prefix in ("a", "b")]
    found = drift.compare(normal(1, site=serial[0]), normal(2, site=serial[1]))
    site = feature(found, "site")
    assert (found.verdict, len(site.unseen), site.n_unseen) == ("none", 20, N)


@pytest.mark.parametrize(
    ("values", "unit"),
    [
        (lambda celsius: celsius * 1.8 + 32, "°C → °F"),
        (lambda celsius: celsius + 273.15, "°C → K"),
        (lambda metres: metres / 1000, "factor 10^-3"),
        (lambda value: -value, "sign changed"),
    ],
)
def test_another_unit_is_recognised(values: Any, unit: str) -> None:
    found = drift.compare(REFERENCE, normal(2, f1=values(np.random.default_rng(3).normal(10, 2, N))))
    assert feature(found, "f1").unit == f"looks like another unit: {unit}"


def test_a_shift_is_not_taken_for_a_unit() -> None:
    found = drift.compare(REFERENCE, normal(2, f1=np.random.default_rng(3).normal(12, 2, N)))
    assert (found.drifted, feature(found, "f1").unit) == (["f1"], None)


@pytest.mark.parametrize("value", [10.0, 0.0, 1e6])
def test_a_column_that_stands_still_is_a_warning(value: float) -> None:
    found = drift.compare(REFERENCE, normal(2, f2=np.full(N, value)))
    assert (found.verdict, found.constant, found.drifted) == ("warn", ["f2"], [])


def test_a_category_that_stands_still_is_a_warning() -> None:
    found = drift.compare(REFERENCE, normal(2, site=["north"] * N))
    assert (found.verdict, found.constant) == ("warn", ["site"])


def test_a_nearly_constant_column_that_is_constant_for_a_while_is_no_finding() -> None:
    almost = np.zeros(N)
    almost[:2] = 1
    found = drift.compare(normal(1, f1=almost), normal(2, f1=np.zeros(N)))
    assert found.verdict == "none"
    almost[:40] = 1
    found = drift.compare(normal(1, f1=almost), normal(2, f1=np.zeros(N)))
    assert (found.verdict, found.constant) == ("warn", ["f1"])


def test_a_column_that_always_stood_still_is_no_finding_but_another_value_is_drift() -> None:
    before = normal(1, f1=np.full(N, 7))
    assert drift.compare(before, normal(2, f1=np.full(N, 7))).verdict == "none"
    assert drift.compare(before, normal(2, f1=np.full(N, 8))).drifted == ["f1"]


def test_missing_values_are_a_warning() -> None:
    values = np.random.default_rng(3).normal(10, 2, N)
    values[::5] = np.nan
    found = drift.compare(REFERENCE, normal(2, f1=pa.array(values, from_pandas=True)))
    assert (found.verdict, found.missing, found.drifted) == ("warn", {"f1": 0.2}, [])


def test_the_same_share_of_missing_values_is_no_finding() -> None:
    def gaps(seed: int) -> pa.Array:
        random = np.random.default_rng(seed)
        return pa.array(np.where(random.random(N) < 0.1, np.nan, random.normal(size=N)), from_pandas=True)

    found = drift.compare(normal(1, f1=gaps(3)), normal(2, f1=gaps(4)))
    assert (found.verdict, found.missing) == ("none", {})
    assert feature(found, "f1").missing_share == pytest.approx(0.1, abs=0.03)


def test_infinite_values_count_as_missing() -> None:
    values = np.random.default_rng(3).normal(10, 2, N)
    values[:100], values[100:150] = np.inf, -np.inf
    found = drift.compare(REFERENCE, normal(2, f1=values))
    assert (found.missing, feature(found, "f1").infinite) == ({"f1": 0.075}, 150)
    assert drift.as_json(found)["features"]["f1"]["wasserstein_norm"] < 0.1


def test_a_sensor_that_says_nothing_any_more() -> None:
    found = drift.compare(REFERENCE, normal(2, f1=pa.nulls(N)))
    assert (found.verdict, found.missing) == ("warn", {"f1": 1.0})
    assert feature(found, "f1").distance is None


def test_significant_but_small_is_a_warning() -> None:
    random = np.random.default_rng(3)
    before, now = random.normal(size=200_000), random.normal(0.03, size=200_000)
    found = drift.compare(pa.table({"f1": before}), pa.table({"f1": now}))
    assert (found.verdict, found.small_changes, found.drifted) == ("warn", ["f1"], [])


def test_one_record_is_no_evidence() -> None:
    far = pa.table({"f1": [1e9], "f2": [0.0], "f3": [-5.0], "site": ["moon"]})
    assert drift.compare(REFERENCE, far).verdict == "none"
    assert drift.compare(far, REFERENCE).verdict == "none"
    assert drift.compare(far, far).verdict == "none"


def test_order_of_columns_and_record_id_do_not_matter() -> None:
    current = normal(2)
    shuffled = current.select(current.column_names[::-1]).append_column("record_id", pa.array(range(N)))
    assert drift.as_json(drift.compare(REFERENCE, shuffled)) == drift.as_json(drift.compare(REFERENCE, current))


def test_booleans_are_categories_and_whole_numbers_numbers() -> None:
    random = np.random.default_rng(3)
    before = pa.table({"on": random.random(N) < 0.5, "level": random.integers(0, 3, N)})
    now = pa.table({"on": random.random(N) < 0.7, "level": random.integers(0, 3, N)})
    found = drift.compare(before, now)
    assert (found.drifted, [one.kind for one in found.features]) == (["on"], ["category", "number"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.drop_columns(["f2", "f3"]), "current: expected the columns of reference, missing: f2, f3"),
        (
            lambda table: table.append_column("f9", pa.array(range(N))),
            "reference: expected the columns of current, missing: f9",
        ),
        (
            lambda table: normal(2, f1=["1.5"] * 7 + ["warm"] * (N - 7)),
            "current: column f1: expected numbers, as in reference, got 'warm' in record 8",
        ),
        (
            lambda table: normal(2, site=[1] * N),
            "reference: column site: expected numbers, as in current, got 'north' in record 1",
        ),
        (lambda table: pa.table({name: pa.nulls(N) for name in table.column_names}), "current: expected values, all"),
    ],
    ids=["missing columns", "new column", "texts", "numbers", "all missing"],
)
def test_tables_that_do_not_fit_are_named(change: Any, said: str) -> None:
    with pytest.raises(drift.ColumnError) as refusal:
        drift.compare(REFERENCE.set_column(3, "site", pa.array(["north", "south"] * (N // 2))), change(normal(2)))
    assert said in str(refusal.value)


@pytest.mark.parametrize("values", [pa.nulls(N), np.full(N, np.nan), np.full(N, np.inf)], ids=["null", "NaN", "inf"])
def test_a_reference_without_values_is_named(values: Any) -> None:
    with pytest.raises(drift.ColumnError, match=r"reference: column f1: expected (finite )?(numbers|values)"):
        drift.compare(normal(1, f1=values), normal(2))


VALUES = st.lists(st.one_of(st.none(), st.floats(width=32), st.integers(-3, 3).map(float)), min_size=1, max_size=40)


@settings(max_examples=40, deadline=None)
@given(VALUES.filter(lambda values: any(value is not None and np.isfinite(value) for value in values)), VALUES)
def test_any_numbers_give_a_verdict_in_json(reference: list[float | None], current: list[float | None]) -> None:
    tables = [
        pa.table({"f": pa.array(values, pa.float64()), "g": [1.0] * len(values)}) for values in (reference, current)
    ]
    found = drift.as_json(drift.compare(*tables))
    assert json.loads(json.dumps(found, allow_nan=False))["verdict"] in drift.EXIT_CODES
    assert found["n_drifted"] == len(found["drifted"]) <= found["n_features"] == 2


def test_random_halves_of_the_same_data_hardly_ever_alarm() -> None:
    """Family-wise: at most 5 % of the pairs may have any finding. ``make drift-power`` does 300 for each data set."""
    random = np.random.default_rng(8)
    pool = random.normal(size=(1000, 20))
    pool[:, :5] = pool[:, :5].round(1)
    alarms = 0
    for _ in range(60):
        order = random.permutation(len(pool))
        halves = [pa.table({f"f{n}": pool[part, n] for n in range(20)}) for part in np.split(order, 2)]
        alarms += drift.compare(*halves).verdict != "none"
    assert alarms <= 3


def test_every_test_of_every_column_is_accounted_for() -> None:
    """One column: its distribution, and whether it stands still. Gaps are a third test, where there are any."""
    random = np.random.default_rng(5)
    before, now = random.normal(size=N), random.normal(0.09, size=N)
    one = feature(drift.compare(pa.table({"f": before}), pa.table({"f": now})), "f")
    assert one.p_adjusted == pytest.approx(2 * (one.p or 0))
    gaps = pa.array(np.where(np.arange(N) < 3, np.nan, now), from_pandas=True)
    one = feature(drift.compare(pa.table({"f": before}), pa.table({"f": gaps})), "f")
    assert one.p_adjusted == pytest.approx(3 * (one.p or 0))


def test_an_array_is_compared_as_a_table_of_its_columns() -> None:
    random = np.random.default_rng(4)
    before, now = random.normal(10, 2, (2, N, 3))
    now[:, 1] += 1
    before[3, 0] = now[5, 2] = np.nan
    names = ["a", "b", "c"]
    tables = [pa.table({name: values[:, at] for at, name in enumerate(names)}) for values in (before, now)]
    of_arrays = drift.compare(drift.Matrix(before, names), drift.Matrix(now, names))
    assert drift.as_json(of_arrays) == drift.as_json(drift.compare(*tables))
    assert of_arrays.drifted == ["b"]


def test_an_array_in_memory_is_not_copied_as_a_whole() -> None:
    columns, rows = 40, 20_000
    values = np.random.default_rng(5).normal(size=(2, rows, columns))
    names = [f"f{at}" for at in range(columns)]
    drift.compare(drift.Matrix(values[0][:100], names), drift.Matrix(values[1][:100], names))  # what is loaded once
    tracemalloc.start()
    drift.compare(drift.Matrix(values[0], names), drift.Matrix(values[1], names))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < values.nbytes / 4


@pytest.mark.parametrize("shape", [(5,), (5, 2), (2, 3, 3)])
def test_an_array_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(drift.ColumnError, match=r"array: expected \[n, 3\] for 3 names, got \["):
        drift.Matrix(np.zeros(shape), ["a", "b", "c"])
