"""Which augmentations allow cached targets is checked, not assumed: teachers hear the perturbed speech too.

A student that hears perturbed frames with the stored targets of the frames as they were is told that the
teachers would still say so. Here they are asked: `divergence` is how far what they say now is from what was
stored, `same_winner` how often they still find the same tied state likeliest, `accuracy` how often they are
right. Where they hardly move, cached targets are as good as new ones. Where they do move and accuracy falls,
cached targets are nearer the truth, and ask the student to hear through what confuses the teachers; views,
about which the teachers are asked anew (`soft_targets.num_views`), do not ask that.
Source: a teacher that sees the augmented input against one that saw another: Beyer et al. (2022),
arXiv:2106.05237.
Shapes: L frames of an utterance, F bins, P pdf-ids.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from asrdistill.errors import ContractError
from asrdistill.features.perturbation import PerturbationConfig, perturb_traced
from asrdistill.hmm.topology import NOT_ALIGNED
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.targets.averaging import Average, ask_teachers

_NOTHING = PerturbationConfig(max_warp=0, channel=0, max_gain=0)


def _alone(**strength: float) -> PerturbationConfig:
    return _NOTHING.model_copy(update=strength)


# One at a time, as strong as is usual in training.
AUGMENTATIONS = {
    "none": _NOTHING,
    "warp": _alone(max_warp=0.12),
    "channel": _alone(channel=0.2),
    "gain": _alone(max_gain=0.1),
    "bands": _alone(num_bands=2),
    "gaps": _alone(gaps=1.0),
    "noise": _alone(noise=0.3),
    "speed": _alone(max_speed=0.15),
}
# Stands for a probability that float32 takes for nothing.
_LEAST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Checked:
    """What teachers make of one augmentation.

    Attributes:
        name: of the augmentation.
        divergence: mean Kullback-Leibler divergence of targets asked anew, q, from cached ones, p: the
            sum over pdf-ids of p ln(p / q), nats.
        same_winner: share of frames whose likeliest pdf-id is the same in both.
        accuracy: share of the frames with a hard target that the targets asked anew find likeliest; None
            where there is no hard target.
    """

    name: str
    divergence: float
    same_winner: float
    accuracy: float | None


@dataclass
class _Count:
    """Sums over frames, of one augmentation."""

    name: str
    divergence: float = 0.0
    same: int = 0
    frames: int = 0
    correct: int = 0
    aligned: int = 0

    def add(self, cached: np.ndarray, asked: np.ndarray, pdf_ids: np.ndarray) -> None:
        """An utterance: targets of both kinds, float (L, P), and hard ones, int (L,)."""
        told, exact = np.maximum(asked, _LEAST).astype(np.float64), cached.astype(np.float64)
        self.divergence += float((exact * np.log(np.maximum(exact, _LEAST) / told)).sum())
        winners = asked.argmax(1)
        self.same += int((winners == cached.argmax(1)).sum())
        self.frames += len(asked)
        self.correct += int((winners == pdf_ids).sum())
        self.aligned += int((pdf_ids != NOT_ALIGNED).sum())

    def finish(self) -> Checked:
        """Their means."""
        accuracy = self.correct / self.aligned if self.aligned else None
        return Checked(self.name, self.divergence / self.frames, self.same / self.frames, accuracy)


def check_augmentations(
    model: AcousticModel,
    utterances: Sequence[np.ndarray],
    pdf_ids: Sequence[np.ndarray] | None,
    temperature: float,
    configs: Mapping[str, PerturbationConfig],
    seed: int,
    average: Average = "arithmetic",
) -> list[Checked]:
    """Ask the teachers about utterances as they are and as each augmentation makes them.

    Where an augmentation changes the speed, cached and hard targets follow, as in training. All
    augmentations draw from the same seeds, so that two strengths of one are compared on like draws.

    Args:
        model: the teachers.
        utterances: float16 (L, F) of each.
        pdf_ids: int (L,) of each, hard targets; -1 where there is none; or None.
        temperature: T of the targets.
        configs: augmentation by name.
        seed: of the augmentations.
        average: which mean over teachers.

    Raises:
        ContractError: there is no frame, hard targets are of other frames, or a posterior is not a number.
    """
    hard = [np.full(len(frames), NOT_ALIGNED) for frames in utterances] if pdf_ids is None else pdf_ids
    _check(utterances, hard)
    counts = [_Count(name) for name in configs]
    for number, (frames, targets) in enumerate(zip(utterances, hard, strict=True)):
        cached = ask_teachers(model, frames, (temperature,), average).averages[0]
        for count, config in zip(counts, configs.values(), strict=True):
            view, origins = perturb_traced(frames, np.random.default_rng((seed, number)), config)
            asked = ask_teachers(model, view.astype(np.float16), (temperature,), average).averages[0]
            count.add(cached[origins], asked, targets[origins])
    return [count.finish() for count in counts]


def _check(utterances: Sequence[np.ndarray], pdf_ids: Sequence[np.ndarray]) -> None:
    if len(utterances) != len(pdf_ids):
        raise ContractError(
            f"augmentation check: {len(utterances)} utterances, hard targets of {len(pdf_ids)}; expected "
            "those of the same utterances"
        )
    for number, (frames, targets) in enumerate(zip(utterances, pdf_ids, strict=True)):
        if len(frames) != len(targets):
            raise ContractError(
                f"augmentation check: utterance number {number} has {len(frames)} frames and {len(targets)} "
                "hard targets; expected one for each frame, from the same experiment"
            )
    if not sum(map(len, utterances)):
        raise ContractError("augmentation check: there is no frame to ask about; give some utterances")


def render(checked: Sequence[Checked]) -> str:
    """What was checked, as a table for a terminal."""
    lines = [f"{'augmentation':<20} {'KL':>8} {'winner':>7} {'accuracy':>8}"]
    for one in checked:
        accuracy = "-" if one.accuracy is None else f"{100 * one.accuracy:.1f}%"
        # Rounding may make it less than nothing.
        lines.append(
            f"{one.name:<20} {max(one.divergence, 0):>8.4f} {100 * one.same_winner:>6.1f}% {accuracy:>8}"
        )
    return "\n".join(lines)
