"""Runs the stages of a recipe: skips the finished, goes on with the interrupted, redoes what changed."""

import json
import resource
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import yaml

from asrdistill.codec_comparison import compare_codecs
from asrdistill.errors import ContractError, ExperimentError, RecipeError
from asrdistill.experiment import Experiment, StagePlan, atomic_path, explained_disk_errors
from asrdistill.features.frame_store import FrameStore
from asrdistill.hmm.alignment import read_pdf_ids
from asrdistill.nn.checkpoint import load_model
from asrdistill.progress import say
from asrdistill.recipe import Recipe, load_codec, load_recipe
from asrdistill.reporting.methods import render_sweep_html, render_sweep_markdown
from asrdistill.stages import (
    align,
    controls,
    features,
    prepare,
    report,
    score,
    soft_targets,
    student,
    teachers,
)
from asrdistill.sweep.grid import Grid
from asrdistill.sweep.run import sweep
from asrdistill.targets.augmentation_check import AUGMENTATIONS, Checked, check_augmentations
from asrdistill.targets.codecs import CodecConfig, describe_codec
from asrdistill.targets.rewriting import rewrite
from asrdistill.targets.shards import ShardReader, serves_any_temperature, spread_utterances
from asrdistill.targets.verification import Damage, find_damage

STAGES: dict[str, ModuleType] = {
    "prepare": prepare,
    "features": features,
    "align": align,
    "teachers": teachers,
    "soft_targets": soft_targets,
    "student": student,
    "controls": controls,
    "score": score,
    "report": report,
}


def find_stage(name: str) -> str:
    """The stage of that name; a hyphen may stand for the underscore.

    Raises:
        RecipeError: there is none.
    """
    stage = name.replace("-", "_")
    if stage not in STAGES:
        raise RecipeError(f"stage {name}: there is no such stage; the stages are {', '.join(STAGES)}")
    return stage


def open_experiment(experiment_dir: Path) -> tuple[Experiment, Recipe]:
    """An experiment that was run before, and its recipe.

    Raises:
        ExperimentError: the folder is no experiment.
        RecipeError: its recipe is of another version.
    """
    recipe_path = experiment_dir / "recipe.yaml"
    if not recipe_path.is_file():
        raise ExperimentError(
            f"{experiment_dir}: not an experiment (no recipe.yaml in it); "
            "give the folder of a run, for example exp/espeak"
        )
    try:
        return Experiment(experiment_dir.absolute()), load_recipe(recipe_path)
    except RecipeError as error:
        raise RecipeError(
            f"{experiment_dir}: another version of asrdistill wrote its recipe, or somebody changed it "
            f"({error}); run it again: asrdistill run RECIPE --exp {experiment_dir} makes anew what is of no "
            "use any more"
        ) from error


def plan_stage(name: str, recipe: Recipe) -> StagePlan:
    """What determines a stage's result, for this recipe."""
    module = STAGES[name]
    values = recipe.model_dump(mode="json")
    settings: dict[str, Any] = {}
    for key in module.SETTINGS:
        settings |= flatten_settings(key, _look_up(values, key))
    list_external_inputs = getattr(module, "list_external_inputs", None)
    external = [str(path) for path in list_external_inputs(recipe)] if list_external_inputs else []
    return StagePlan(name, settings, (*module.READS, *external), module.WRITES)


def _look_up(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = None if values is None else values[part]
    return values


def flatten_settings(key: str, value: Any) -> dict[str, Any]:
    """Settings as `section.key: value`, so that a change can be told by its name."""
    if not isinstance(value, dict):
        return {key: value}
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat |= flatten_settings(f"{key}.{name}", inner)
    return flat


def run_stages(
    recipe: Recipe, experiment: Experiment, last: str = "report", force: Sequence[str] = ()
) -> None:
    """Run all stages up to `last`, those that need it.

    Args:
        recipe: what to do.
        experiment: where.
        last: the last stage to run.
        force: stages to do again although nothing changed.

    Raises:
        UserError: something that the user can mend; finished stages keep their results.
    """
    wanted = list(STAGES)[: list(STAGES).index(last) + 1]
    for name in force:
        if name not in wanted:
            raise RecipeError(
                f"--force {name}: it comes after --stage {last}, so its results would go and not be "
                "made again; leave --stage out, or name a later one"
            )
    for name in wanted:
        check_files = getattr(STAGES[name], "check_files", None)
        if check_files:  # at once: the stage that reads them may be an hour away
            check_files(recipe)
    with experiment.locked():
        _write_recipe(experiment, recipe)
        for name in force:
            experiment.invalidate(name)
        for number, name in enumerate(wanted, 1):
            plan = plan_stage(name, recipe)
            reason = experiment.why_stale(plan)
            if reason is None:
                say(f"[{number}/{len(STAGES)}] {name}: finished")
            else:
                say(f"[{number}/{len(STAGES)}] {name}: {reason}")
                _run_stage(recipe, experiment, plan)


def _write_recipe(experiment: Experiment, recipe: Recipe) -> None:
    with atomic_path(experiment.dir / "recipe.yaml") as temporary:
        temporary.write_text(
            yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False), encoding="utf-8"
        )


def _run_stage(recipe: Recipe, experiment: Experiment, plan: StagePlan) -> None:
    check = getattr(STAGES[plan.name], "check", None)
    if check:
        check(recipe, experiment)
    read = experiment.begin(plan)
    _forget_peak_memory()
    start = time.monotonic()
    with explained_disk_errors(experiment.stage_dir(plan.name)):
        STAGES[plan.name].run(recipe, experiment)
    seconds = time.monotonic() - start
    # Planned anew: a download may have brought files that the stage depends on.
    experiment.finish(
        plan_stage(plan.name, recipe),
        read,
        {"seconds": round(seconds, 2), "peak_memory_mb": round(_peak_memory_mb())},
    )
    say(f"  {plan.name} took {seconds:.0f} s")


def _forget_peak_memory() -> None:
    """Start the peak anew, so that a stage's is its own; only Linux can, and not in every container."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory_mb() -> float:
    """Largest resident size of this process since `_forget_peak_memory` worked, in MB (10^6 bytes)."""
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024 / 1e6
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / 1e6 if sys.platform == "darwin" else size * 1024 / 1e6


def help_dump(experiment_dir: Path) -> None:
    """Make shards of an experiment whose soft-targets stage runs elsewhere, until all are there.

    Raises:
        ExperimentError: that stage is not under way, or was begun anew with other settings meanwhile.
    """
    experiment, recipe = open_experiment(experiment_dir)
    plan = plan_stage("soft_targets", recipe)
    origin = experiment.read_origin(plan.name) if experiment.is_under_way(plan) else None

    def check() -> None:
        if origin is None or experiment.read_origin(plan.name) != origin:
            raise ExperimentError(
                f"{experiment_dir}: its soft-targets stage is not under way with the settings that it has "
                "now; start it there (asrdistill run ... --stage soft-targets), then this, in as many places"
            )

    check()
    model, _ = load_model(experiment.dir / "teachers/model.safetensors")
    shards_dir = experiment.stage_dir("soft_targets") / "shards"
    try:
        with explained_disk_errors(experiment.stage_dir(plan.name)):
            soft_targets.dump_shards(recipe, experiment, model, shards_dir, check)
    except FileNotFoundError as error:
        raise ExperimentError(
            f"{experiment_dir}: the run that this one helped was begun again, or has ended; start this again"
        ) from error


def rewrite_shards(place: Path, out: Path, overrides: Sequence[str], added_dir: Path | None) -> Path:
    """Write shards anew, by another codec or with more teachers.

    Args:
        place: an experiment, or a folder of shards.
        out: folder for the new shards.
        overrides: of the codec; none: that of the old shards.
        added_dir: experiment whose teachers are to be averaged with the old ones; or None.

    Returns:
        The folder of the new shards.

    Raises:
        UserError: something that the user can mend.
    """
    is_experiment = (place / "recipe.yaml").is_file()
    reader = ShardReader(place / "soft_targets/shards" if is_experiment else place)
    codec = load_codec(overrides) if overrides else reader.codec_config
    added = None
    if added_dir:
        experiment, recipe = open_experiment(added_dir)
        added = soft_targets.open_added_teachers(recipe, experiment, reader)
    elif codec == reader.codec_config:
        raise ContractError(
            f"{place}: its codec is {describe_codec(codec)} already, and no teachers are added; choose "
            "another codec (--set soft_targets.codec.kind=transform) or --add-teachers EXP"
        )
    average = reader.index["average"]
    if serves_any_temperature(average, codec) > serves_any_temperature(average, reader.codec_config):
        raise ContractError(
            f"soft targets {reader.shards_dir}: codec {describe_codec(reader.codec_config)} keeps no small "
            f"probabilities, so {describe_codec(codec)} made of it would not be right at other temperatures, "
            "as it promises to be: dump again with it"
        )
    with explained_disk_errors(out):
        rewrite(reader, out, codec, added)
    return out


def find_shard_damage(place: Path) -> list[Damage]:
    """What is wrong with the shards of an experiment, or of a folder with nothing else.

    Raises:
        ContractError: it is neither.
    """
    if not (place / "recipe.yaml").is_file():
        if not (place / "index.json").is_file():
            raise ContractError(
                f"{place}: neither an experiment (no recipe.yaml in it) nor a folder of shards "
                "(no index.json); give exp/espeak, for example, or a copy of its soft_targets/shards"
            )
        return find_damage(place)
    experiment, recipe = open_experiment(place)
    return _find_damaged_files(experiment) or soft_targets.find_differences(recipe, experiment)


def _find_damaged_files(experiment: Experiment) -> list[Damage]:
    damage = find_damage(experiment.stage_dir("soft_targets") / "shards")
    named = {found.path for found in damage}
    return damage + [
        Damage(path, "not the bytes that the soft-targets stage wrote")
        for path in experiment.find_damaged("soft_targets")
        if path not in named
    ]


def refuse_unfinished(recipe: Recipe, experiment: Experiment, before: str) -> None:
    """See that all stages before one are finished.

    Raises:
        ExperimentError: a stage would have to run that comes before this one.
    """
    for name in list(STAGES)[: list(STAGES).index(before)]:
        reason = experiment.why_stale(plan_stage(name, recipe))
        if reason:
            raise ExperimentError(
                f"{experiment.dir}: stage {name}, which comes before, is not finished ({reason}); "
                "asrdistill run makes everything again that has to be"
            )


def compare_codecs_of(experiment_dir: Path, codecs: Sequence[CodecConfig], num_seeds: int) -> Path:
    """Train and score students of several codecs, and make the report again.

    Args:
        experiment_dir: of a finished experiment.
        codecs: to be compared; none: those that are by default.
        num_seeds: students of each.

    Returns:
        Path of the results.

    Raises:
        UserError: something that the user can mend.
    """
    experiment, recipe = open_experiment(experiment_dir)
    refuse_unfinished(recipe, experiment, "report")
    with experiment.locked(), explained_disk_errors(experiment.dir / "codecs"):
        path = compare_codecs(recipe, experiment, codecs, num_seeds)
    run_stages(recipe, experiment, "report", ["report"])
    return path


def sweep_methods(grid: Grid, experiment: Experiment) -> Path:
    """Run the base of a grid up to the soft targets, then every row, and write table and page.

    Returns:
        The folder with sweep.json, sweep.md and sweep.html.

    Raises:
        UserError: something that the user can mend; what is finished keeps its results.
    """
    run_stages(grid.base, experiment, "soft_targets")
    with experiment.locked(), explained_disk_errors(experiment.dir / "sweep"):
        path = sweep(grid, experiment)
        swept = json.loads(path.read_text(encoding="utf-8"))
        for name, render in (("sweep.md", render_sweep_markdown), ("sweep.html", render_sweep_html)):
            with atomic_path(path.with_name(name)) as temporary:
                temporary.write_text(render(swept), encoding="utf-8")
    return path.parent


def check_augmentations_of(experiment_dir: Path, minutes: float) -> list[Checked]:
    """Ask an experiment's teachers about some minutes of dev as they are and perturbed, kind by kind.

    Raises:
        UserError: something that the user can mend.
    """
    experiment, recipe = open_experiment(experiment_dir)
    refuse_unfinished(recipe, experiment, "soft_targets")
    model, _ = load_model(experiment.dir / "teachers/model.safetensors")
    store = FrameStore(experiment.stage_dir("features"), "dev")
    pdf_ids = read_pdf_ids(experiment.stage_dir("align"), "dev", store.num_frames)
    if not minutes > 0:
        raise ContractError(f"augmentations: --minutes is {minutes:g}, expected some, such as 5")
    chosen = spread_utterances(np.diff(store.starts), 60 * minutes / recipe.features.frame_shift_s)
    return check_augmentations(
        model,
        [store.frames_of(number) for number in chosen],
        [pdf_ids[store.starts[number] : store.starts[number + 1]] for number in chosen],
        recipe.student.temperature,
        AUGMENTATIONS,
        recipe.soft_targets.seed,
        recipe.soft_targets.average,
    )


def repair_shards(experiment_dir: Path) -> list[Path]:
    """Make those shards of an experiment again whose bytes are damaged.

    Returns:
        The files that were damaged.

    Raises:
        ExperimentError: an earlier stage would have to run first, or whole shards are of other teachers.
    """
    experiment, recipe = open_experiment(experiment_dir)
    refuse_unfinished(recipe, experiment, "soft_targets")
    with experiment.locked():
        damage = _find_damaged_files(experiment)
        for found in damage:
            found.path.unlink(missing_ok=True)
    if not damage:
        differences = soft_targets.find_differences(recipe, experiment)
        if differences:
            raise ExperimentError(
                f"{experiment_dir}: no shard is damaged, but {differences[0].path}: {differences[0].reason}; "
                "asrdistill run --force soft-targets dumps all of them again"
            )
    before = _hash_written(experiment, "soft_targets")
    run_stages(recipe, experiment, "soft_targets")
    after = _hash_written(experiment, "soft_targets")
    if changed := [name for name, sha256 in before.items() if after.get(name) != sha256]:
        say(
            f"  {', '.join(changed[:10])}: other bytes than before: another processor, or number of threads, "
            "rounds otherwise; what was made of them is made again"
        )
    return [found.path for found in damage]


def _hash_written(experiment: Experiment, stage: str) -> dict[str, str]:
    """SHA-256 of the files that a stage wrote, as it did; none where it is not finished."""
    written = (experiment.stamp_of(stage) or {"writes": {}})["writes"]
    return {path: was["sha256"] for path, was in written.items()}
