"""Pairs of samples on which the toolbox is compared with evidently: real ones, and the shapes that break definitions.

Both environments import this; they share numpy and river's data files, and nothing else.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from river.datasets import Phishing, Shuttle

Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


def read(path: str) -> dict[str, NDArray[np.float64]]:
    """The columns of one of river's CSV files of numbers."""
    with gzip.open(Path(path), "rt", encoding="utf-8") as file:
        names = file.readline().strip().split(",")
        table = np.loadtxt(file, delimiter=",")
    return dict(zip(names, table.T, strict=True))


def numbers() -> Iterator[tuple[str, Pair]]:
    """(name, reference and current) of numbers."""
    shuttle = read(Shuttle().path)
    for name, values in shuttle.items():
        yield f"shuttle {name} halves", (values[::2], values[1::2])
        yield f"shuttle {name} before and after", (values[:6000], values[30000:34000])
    for name, values in read(Phishing().path).items():
        yield f"phishing {name}", (values[:600], values[600:])
    wave = np.sin(np.arange(1500.0))
    yield "shifted", (wave, wave + 0.3)
    yield "another unit", (wave, wave * 1000)
    yield "nearly constant", (np.where(np.arange(900) == 7, 1.0, 0.0), np.where(np.arange(400) < 3, 1.0, 0.0))
    yield "constant then another constant", (np.full(50, 2.0), np.full(70, 2.0005))
    yield "ties", (np.round(wave * 2), np.round(wave[:700] * 2) + 1)
    yield "empty bins", (wave, wave[wave > 0.5])
    yield "single rows", (np.array([1.0]), np.array([2.0]))
    yield "one against many", (wave, np.array([5.0]))
    yield "apart", (np.arange(30.0), np.arange(100.0, 140.0))
    yield "large", (np.tile(wave, 8), np.tile(wave, 9) * 1.02)


def categories() -> Iterator[tuple[str, tuple[list[str], list[str]]]]:
    """(name, reference and current) of categories, each of which is in both samples."""
    yield "three", (list("aaabbc" * 40), list("aabbcc" * 30))
    yield "two", (list("ab" * 60), list("aab" * 50))
    yield "the same", (list("abcd" * 25), list("abcd" * 50))
    yield "a rare one", (list("a" * 500 + "b" * 3), list("a" * 400 + "b" * 9))
