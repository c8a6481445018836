"""Two runs of one kind side by side, by what their ``run.json`` say.

The same is: bit for bit, under the same versions, code, processors, devices and numbers of threads. Where one of
these differs, sums are rounded in another order, and training carries that on: then the same is that raw files
are equal and every number in ``metrics.json`` is, within a tolerance. Times are not compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Comparison", "Difference", "compare"]

#: how many of a kind a line names
_SHOWN = 3
_CIRCUMSTANCES = ("python", "platform", "processor", "commit")


@dataclass(frozen=True)
class Difference:
    """One thing that came out otherwise: its kind, its name, what it was and what it is."""

    kind: str
    name: str
    then: Any
    now: Any

    def __str__(self) -> str:
        return f"{' '.join(filter(None, (self.kind, self.name)))}: {self.change}"

    @property
    def change(self) -> str:
        return f"{_short(self.then)} → {_short(self.now)}"


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side.

    counts:        kind -> how many things were compared: raw files, input, seeds, prepared data, weights, metrics
    differences:   what is not equal bit for bit, in the order of the pipeline
    circumstances: versions, code, processors, devices and threads that differ
    tolerance:     relative, of a metric, where the circumstances differ
    """

    counts: Mapping[str, int]
    differences: tuple[Difference, ...]
    circumstances: tuple[Difference, ...]
    tolerance: float

    @property
    def exact(self) -> bool:
        """Whether everything is equal bit for bit."""
        return not self.differences

    @property
    def beyond(self) -> list[Difference]:
        """The differences that make it another result."""
        if not self.circumstances:
            return list(self.differences)
        return [found for found in self.differences if not self._allowed(found)]

    @property
    def same(self) -> bool:
        return not self.beyond

    def _allowed(self, found: Difference) -> bool:
        """Whether other circumstances may bring this about."""
        if found.kind == "metrics":
            return _close(found.then, found.now, self.tolerance)
        return found.kind in ("prepared data", "weights", "files made here")

    def verdict(self) -> str:
        """One line."""
        if self.exact:
            return "the same, bit for bit"
        if self.same:
            return f"the same within {self.tolerance:g}, in other circumstances"
        return f"not the same: {self.beyond[0]}"

    def rows(self) -> Iterator[tuple[str, str]]:
        """(what, how it came out) of a short table."""
        for kind, count in self.counts.items():
            differ = [found for found in self.differences if found.kind == kind]
            if count:
                yield kind, f"{count - len(differ)} of {count} equal{self._worst(kind, differ)}"
        for kind in dict.fromkeys(found.kind for found in self.circumstances):
            told = [
                f"{found.name}: {found.change}" if found.name else found.change
                for found in self.circumstances
                if found.kind == kind
            ]
            more = f" and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
            yield kind, ", ".join(told[:_SHOWN]) + more

    def _worst(self, kind: str, differ: list[Difference]) -> str:
        if not differ:
            return ""
        if kind != "metrics":
            return f", not {', '.join(found.name for found in differ[:_SHOWN])}"
        worst = max(differ, key=lambda found: _apart(found.then, found.now))
        return f", at most {_apart(worst.then, worst.now):.2g} apart ({worst.name})"

    def to_json(self) -> dict[str, Any]:
        def plain(found: Difference) -> dict[str, Any]:
            return {"kind": found.kind, "name": found.name, "then": found.then, "now": found.now}

        return {
            "same": self.same,
            "verdict": self.verdict(),
            "tolerance": self.tolerance,
            "compared": dict(self.counts),
            "differences": [plain(found) for found in self.differences],
            "circumstances": [plain(found) for found in self.circumstances],
        }


def compare(then: dict[str, Any], now: dict[str, Any], tolerance: float) -> Comparison:
    """Two records of runs, as ``run.json`` holds them, side by side."""
    counts: dict[str, int] = {}
    differences: list[Difference] = []
    for kind, view in _VIEWS.items():
        before, after = view(then), view(now)
        names = [*before, *(name for name in after if name not in before)]
        counts[kind] = len(names)
        both = ((name, before.get(name), after.get(name)) for name in names)
        differences += [Difference(kind, name, a, b) for name, a, b in both if not _equal(a, b)]
    was, is_ = _circumstances(then), _circumstances(now)
    keys = sorted({*was, *is_})
    # what a stage does not tell of itself is that of the run
    pairs = ((key, was.get(key, was.get((key[0], ""))), is_.get(key, is_.get((key[0], "")))) for key in keys)
    circumstances = [Difference(*key, a, b) for key, a, b in pairs if a != b]
    if str(then.get("commit")).endswith("-dirty") and then["commit"] == now.get("commit"):
        circumstances.append(
            Difference("commit", "changes that no commit holds", then["commit"], now["commit"])
        )
    return Comparison(counts, tuple(differences), tuple(circumstances), tolerance)


def _files(record: dict[str, Any], made: bool) -> dict[str, Any]:
    """Hashes of raw files, those that our own code made or the others, by variant and name."""
    simulated = {stage["name"] for stage in record["stages"] if stage["stage"] == "simulate"}
    found = {
        f"{variant}/{name}": file["sha256"]
        for variant, keys in record["variants"].items()
        for name, file in record["files"].get(keys["fetch"], {}).items()
        if (keys["fetch"] in simulated) == made
    }
    if not made:
        for dataset, files in record["beside"].items():
            found |= {f"{dataset}/{name}": file["sha256"] for name, file in files.items()}
    return found


def _prepared(record: dict[str, Any]) -> dict[str, Any]:
    return {
        variant: record["data"].get(keys["prepare"], {}).get("fingerprint")
        for variant, keys in record["variants"].items()
    }


_VIEWS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "raw files": lambda record: _files(record, made=False),
    "files made here": lambda record: _files(record, made=True),
    "input": lambda record: {"sha256": record["input"]["sha256"]} if record["input"] else {},
    "seeds": lambda record: record["seeds"],
    "prepared data": _prepared,
    "weights": lambda record: record["weights"],
    "metrics": lambda record: dict(_numbers(record["metrics"])),
}


def _numbers(found: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of every value in the metrics, but for times and how the step ran."""
    if isinstance(found, Mapping):
        for key, value in found.items():
            if key != "seconds" and not key.endswith("_seconds") and key != "compiled":
                yield from _numbers(value, f"{path}.{key}" if path else key)
    elif isinstance(found, list):
        for index, value in enumerate(found):
            yield from _numbers(value, f"{path}[{index}]")
    else:
        yield path, found


def _circumstances(record: dict[str, Any]) -> dict[tuple[str, str], Any]:
    """(kind, name) -> value of all that may change the last bits, or more."""
    found: dict[tuple[str, str], Any] = {(key, ""): record.get(key) for key in _CIRCUMSTANCES}
    found |= {("version", name): version for name, version in record["versions"].items()}
    found |= {("code of the domain", stage): code for stage, code in record["code"].items()}
    keys = {keys["prepare"]: name for name, keys in record["variants"].items()}
    keys |= {keys["fetch"]: name for name, keys in record["variants"].items()}
    for stage in record["stages"]:
        label = "/".join(filter(None, (stage["stage"], keys.get(stage["name"], stage["name"]))))
        if stage["stage"] in ("prepare", "train", "encode", "analyse", "simulate"):
            found["threads", label] = stage["threads"]
        found |= {(key, label): stage[key] for key in ("device", "compiled") if key in stage}
        found |= {(key, label): value for key, value in stage.get("elsewhere", {}).items()}
    return found


def _equal(a: Any, b: Any) -> bool:
    return type(a) is type(b) and (a == b)


def _close(a: Any, b: Any, tolerance: float) -> bool:
    """Whether two metrics are equal within a relative tolerance; text is told, not judged."""
    return (isinstance(a, str) and isinstance(b, str)) or _apart(a, b) <= tolerance


def _apart(a: Any, b: Any) -> float:
    """How far two metrics are apart, of the larger one; infinite where they are not both numbers."""
    if isinstance(a, str) and isinstance(b, str):
        return 0.0
    if any(isinstance(x, bool) or not isinstance(x, int | float) for x in (a, b)):
        return 0.0 if _equal(a, b) else math.inf
    return abs(a - b) / max(abs(a), abs(b)) if a != b else 0.0


def _short(value: Any) -> str:
    text = "absent" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    if " " in text:
        return text if len(text) <= 60 else f"{text[:60]}…"
    return text if len(text) <= 20 else f"{text[:12]}…{text[-6:]}"
