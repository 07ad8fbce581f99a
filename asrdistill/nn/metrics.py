"""What a training run tells while it runs: lines of JSON, and the same as TensorBoard events.

`metrics.jsonl` has a line every few steps and one after each epoch; `tensorboard --logdir` shows the folder.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

LINES_AN_EPOCH = 20


class MetricsLog:
    """Keeps a folder of metrics; a run that goes on from step n drops what a killed one wrote after it."""

    def __init__(self, folder: Path, names: Sequence[str], step: int, epoch: int) -> None:
        """Args:
        folder: emptied where the run starts at step 0.
        names: of the members.
        step: optimiser steps done so far.
        epoch: epochs finished so far.
        """
        # Not at the top: it takes a second, which other commands should not wait for.
        from torch.utils.tensorboard import SummaryWriter

        self.names = names
        self.path = folder / "metrics.jsonl"
        if not step:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        self._drop_after(step, epoch)
        self.file = self.path.open("a", encoding="utf-8")
        self.events = SummaryWriter(str(folder), purge_step=step + 1)

    def _drop_after(self, step: int, epoch: int) -> None:
        if not self.path.is_file():
            return
        lines = self.path.read_text(encoding="utf-8").splitlines()
        # After an epoch's last step comes its judgement, which a run that goes on from there repeats.
        kept = [line for line in lines if _position_of(line) <= (step, epoch)]
        self.path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def write(
        self, step: int, members: Sequence[int], of_members: dict[str, torch.Tensor], of_run: dict[str, float]
    ) -> None:
        """Add a line.

        Args:
            step: optimiser steps done so far.
            members: the active ones.
            of_members: quantity -> its value for each of them, (M,).
            of_run: quantity -> its value; `epoch` is one, the epochs finished so far.
        """
        names = [self.names[member] for member in members]
        curves = {name: dict(zip(names, values.tolist(), strict=True)) for name, values in of_members.items()}
        self.file.write(json.dumps({"step": step, **of_run, **curves}) + "\n")
        self.file.flush()
        for name, value in of_run.items():
            self.events.add_scalar(f"run/{name}", value, step)
        for name, curve in curves.items():
            for member, value in curve.items():
                self.events.add_scalar(f"{name}/{member}", value, step)

    def close(self) -> None:
        self.file.close()
        self.events.close()


def _position_of(line: str) -> tuple[float, float]:
    """Step and epoch of a line; one that a killed run left unfinished comes after all others."""
    try:
        values = json.loads(line)
        return float(values["step"]), float(values["epoch"])
    except (ValueError, KeyError, TypeError):
        return float("inf"), float("inf")
