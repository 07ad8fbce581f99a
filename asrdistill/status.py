"""What an experiment holds: stages, progress, time, disk."""

from pathlib import Path

from asrdistill.experiment import Experiment
from asrdistill.nn.checkpoint import read_epoch
from asrdistill.pipeline import STAGES, open_experiment, plan_stage


def describe_status(experiment_dir: Path) -> str:
    """A line for each stage: state, seconds, peak memory, size on disk.

    Raises:
        ExperimentError: the folder is no experiment.
        RecipeError: its recipe is of another version.
    """
    experiment, recipe = open_experiment(experiment_dir)
    lines = [f"{'stage':<13} {'state':<44} {'seconds':>8} {'MB peak':>8} {'MB disk':>8}"]
    for name in STAGES:
        stamp = experiment.stamp_of(name)
        reason = experiment.why_stale(plan_stage(name, recipe))
        state = "finished" if reason is None else _describe_partial(experiment, name, reason)
        seconds, peak = (f"{stamp['seconds']:.0f}", f"{stamp['peak_memory_mb']}") if stamp else ("", "")
        lines.append(
            f"{name:<13} {state:<44} {seconds:>8} {peak:>8} {experiment.size_bytes(name) / 1e6:>8.1f}"
        )
    return "\n".join(lines)


def _describe_partial(experiment: Experiment, name: str, reason: str) -> str:
    """Why the stage is not finished, and what it has left so far."""
    folder = experiment.stage_dir(name)
    counted = {
        "soft_targets": (folder.glob("shards/*.tar"), "shards"),
        "score": (folder.glob("systems/*.json"), "systems"),
        "prepare": (folder.glob("audio/*.wav"), "recordings"),
    }
    if reason != "was interrupted":
        return reason
    state = "running" if experiment.is_running() else reason
    if name in counted:
        paths, what = counted[name]
        return f"{state}; {len(list(paths))} {what} done"
    checkpoints = sorted(folder.rglob("*checkpoint.safetensors"), key=lambda path: path.stat().st_mtime)
    epoch = read_epoch(checkpoints[-1]) if checkpoints else None
    return state if epoch is None else f"{state}; {epoch} epochs done"
