"""A whole grid: teachers, ensemble and every row, and how much of the ensemble's gain each row keeps."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asrdistill.experiment import Experiment, write_json
from asrdistill.nn.checkpoint import load_model
from asrdistill.progress import say
from asrdistill.scoring.comparison import MEASURES, bootstrap_transfers
from asrdistill.scoring.outcomes import Outcomes
from asrdistill.scoring.scorer import Scorer
from asrdistill.scoring.systems import NetworkSystem
from asrdistill.stages.score import describe_test
from asrdistill.sweep.grid import Grid
from asrdistill.sweep.row import TRAINING_PASSES, Row, describe_scoring, take_results
from asrdistill.sweep.speed import time_systems

SCHEMA = 1
# Rates that differ by less are equal.
ROUNDING = 1e-9


def sweep(grid: Grid, experiment: Experiment) -> Path:
    """Train and score every row that is not there yet.

    Args:
        grid: what is asked.
        experiment: of its base; all stages up to the soft targets are finished.

    Returns:
        Path of sweep.json: `references`, baseline and ensemble, and `rows`; what other parts of the grid
        measured before, with the same teachers, is in it too.
    """
    sweep_dir = experiment.dir / "sweep"
    scorer = Scorer(grid.base.decoding, experiment, sweep_dir / "systems", with_phones=False)
    describe_test(scorer, sweep_dir)
    scoring = describe_scoring(grid.base, experiment)
    references = score_references(scorer, experiment, sweep_dir, scoring)
    path = sweep_dir / "sweep.json"
    rows = {
        config.name: Row(grid, config, experiment, sweep_dir, scoring) for config in grid.rows_of_all_parts
    }
    for number, config in enumerate(grid.rows, 1):
        say(f"[{number}/{len(grid.rows)}] {config.name}")
        rows[config.name].measure(scorer)
        # After each: who stops here has the table of what there is.
        measured = {name: found for name, row in rows.items() if (found := row.read())}
        speeds = measure_speeds(scorer, experiment, [rows[name] for name in measured])
        timed = [{**found, "seconds_a_frame": speeds.of_rows[name]} for name, found in measured.items()]
        references = {**references, "seconds_a_frame": speeds.of_references}
        write_json(path, gather(grid, experiment, sweep_dir, references, timed))
    return path


@dataclass(frozen=True)
class Speeds:
    """Seconds for a frame: of one teacher (`baseline`) and the ensemble, and of a student of each row."""

    of_references: dict[str, float]
    of_rows: dict[str, float]


def measure_speeds(scorer: Scorer, experiment: Experiment, rows: Sequence[Row]) -> Speeds:
    """All are timed together; students of one architecture take the same time."""
    teachers, _ = load_model(experiment.dir / "teachers/model.safetensors")
    systems = {
        "baseline": NetworkSystem("baseline", teachers.select_members([0]), scorer.log_priors),
        "ensemble": NetworkSystem("ensemble", teachers, scorer.log_priors),
    }
    of_references = tuple(systems)
    architectures = {row.config.name: row.recipe.student_model.model_dump_json() for row in rows}
    for row in rows:
        architecture = architectures[row.config.name]
        if architecture not in systems:
            systems[architecture] = row.load_student(scorer)
    seconds = time_systems(systems, scorer.stores["dev"])
    return Speeds(
        {name: seconds[name] for name in of_references},
        {name: seconds[architecture] for name, architecture in architectures.items()},
    )


def score_references(
    scorer: Scorer, experiment: Experiment, sweep_dir: Path, scoring: dict[str, Any]
) -> dict[str, Any]:
    """What every teacher and the ensemble make of dev and test, as sweep.json has it."""
    path = sweep_dir / "references.json"
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found.pop("asked") == json.loads(json.dumps(scoring)):
            say("teachers and ensemble: scored already")
            return found
    say("teachers and ensemble")
    model, _ = load_model(experiment.dir / "teachers/model.safetensors")
    curves = json.loads((experiment.dir / "teachers/curves.json").read_text(encoding="utf-8"))
    num_epochs = sum(len(curve["train_loss"]) for curve in curves) / len(curves)
    systems = [
        NetworkSystem(f"teacher_{member:02d}", model.select_members([member]), scorer.log_priors)
        for member in range(model.num_members)
    ]
    ensemble = NetworkSystem("ensemble", model, scorer.log_priors)
    scored = [scorer.score(system) for system in (*systems, ensemble)]
    frames_seen = round(num_epochs * int((scorer.train_pdf_ids >= 0).sum()))
    references = {
        "teachers": [take_results(one) for one in scored[:-1]],
        "ensemble": take_results(scored[-1]),
        "training_flops": TRAINING_PASSES * systems[0].flops_a_frame * frames_seen,
    }
    write_json(path, {"asked": scoring, **references})
    return references


def gather(
    grid: Grid,
    experiment: Experiment,
    sweep_dir: Path,
    references: dict[str, Any],
    measured: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """What sweep.json holds, of rows that were measured."""
    outcomes = Outcomes(experiment.dir, sweep_dir)
    teachers = [outcomes.read(f"teacher_{number:02d}") for number in range(len(references["teachers"]))]
    ensemble = outcomes.read("ensemble")
    rows = []
    for row in measured:
        students = [outcomes.read(student["system"]) for student in row["students"]]
        intervals = bootstrap_transfers(teachers, ensemble, students, outcomes.speech)
        rows.append({**row, "transfer": describe_transfer(row, references, intervals)})
    return {
        "schema": SCHEMA,
        "grid": grid.name,
        "recipe": grid.base.model_dump(mode="json"),
        "num_utterances": len(outcomes.utterances),
        "block": outcomes.speech.block,
        "num_blocks": outcomes.speech.num_blocks,
        "frame_shift_s": grid.base.features.frame_shift_s,
        "references": references,
        "rows": rows,
    }


def describe_transfer(
    row: dict[str, Any], references: dict[str, Any], intervals: dict[str, tuple[float, float] | None]
) -> dict[str, Any]:
    """Share of the ensemble's gain over one teacher that a row's students keep on test, by measure."""
    found = {}
    for measure, interval in intervals.items():
        student, baseline = (
            mean(read(one, measure) for one in many) for many in (row["students"], references["teachers"])
        )
        gain = read(references["ensemble"], measure) - baseline
        found[measure] = {
            "value": (student - baseline) / gain if abs(gain) > ROUNDING else None,
            "ci95": None if interval is None else list(interval),
        }
    return found


def read(system: dict[str, Any], measure: str, split: str = "test") -> float:
    """A rate of a system, from 0 to 1."""
    assert measure in MEASURES
    value = system[measure][split]
    return float(value if measure == "frame_accuracy" else value[measure])


def mean(values: Sequence[float] | Any) -> float:
    """Arithmetic mean."""
    counted = list(values)
    return sum(counted) / len(counted)
