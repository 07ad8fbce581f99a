"""What each stage took: time, memory, disk; as text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NOTE = (
    "Peak memory is that of the main process; the time of a stage that was interrupted "
    "is that of its last run."
)
COLUMNS = ("stage", "time", "peak memory", "on disk")
UNKNOWN = "–"


@dataclass(frozen=True)
class CostRow:
    """One stage's cost as text, and its share of the longest stage's time (0 to 1) for a bar."""

    stage: str
    time: str
    peak_memory: str
    size: str
    share: float


def list_cost_rows(stages: Mapping[str, Mapping[str, Any]]) -> list[CostRow]:
    """One row a stage, in the order of running."""
    longest_s = max((stage["seconds"] for stage in stages.values()), default=0)
    return [
        CostRow(
            name,
            format_seconds(stage["seconds"]),
            format_bytes(1e6 * stage["peak_memory_mb"]),
            format_bytes(stage["size_bytes"]) if "size_bytes" in stage else UNKNOWN,
            stage["seconds"] / longest_s if longest_s else 0.0,
        )
        for name, stage in stages.items()
    ]


def sum_costs(stages: Mapping[str, Mapping[str, Any]]) -> CostRow:
    """All stages together: times and sizes added, the highest of the peaks."""
    sizes = [stage["size_bytes"] for stage in stages.values() if "size_bytes" in stage]
    peak_mb = max((stage["peak_memory_mb"] for stage in stages.values()), default=0)
    seconds = sum(stage["seconds"] for stage in stages.values())
    size = format_bytes(sum(sizes)) if sizes else UNKNOWN
    return CostRow("all", format_seconds(seconds), format_bytes(1e6 * peak_mb), size, 0.0)


def format_seconds(seconds: float) -> str:
    """A duration in its two largest units, "2 h 05 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def format_bytes(size_bytes: float) -> str:
    """A size in decimal units, "31.5 MB"."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes:.0f} B"
