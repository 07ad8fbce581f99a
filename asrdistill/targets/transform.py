"""Soft targets as a picture is stored: few components, few frequencies in time, rounded; then corrected.

The logarithm of an ensemble's average posterior is, up to little, a mean and a combination of some hundred
components, however many tied states there are, because the teachers' hidden layers are no wider; and it
changes slowly from frame to frame. So each utterance's log-posteriors are projected on components, every
block of frames goes through a cosine transform in time, and the coefficients are rounded to multiples of one
step. Where frames are uncertain or change fast more coefficients survive, and more bits are spent there.
What is coded, and how far coefficients are from zero, is learnt once from a sample of the corpus: the
codebook, which is stored beside the shards. What that leaves out is no noise: the same for like frames, it
would turn a student's gradient. So signed draws of it follow (`asrdistill.targets.corrections`), which make
targets right on average; a coarse step with draws takes fewer bytes than a fine one without, or than draws
alone, for the code takes most of the variance away from what is drawn of.
Source: transform coding with the Karhunen-Loeve transform and one step for all coefficients, the best at
a given squared error (Goyal 2001, IEEE Signal Processing Magazine 18(5)); ours is its use for soft targets.
An error in the log-probability of pdf-id j counts by the mean probability of j: where that is the frame's
own, half the weighted squared error is the Kullback-Leibler divergence, but for terms of third order.
Shapes: N frames, P pdf-ids, R components, L frames of a block.
"""

import hashlib
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from safetensors.numpy import load_file, save
from scipy.fft import dct

from asrdistill.config import Config
from asrdistill.experiment import atomic_path
from asrdistill.nn.soft_targets import LogBasis, LowRankTargets
from asrdistill.targets.corrections import count_most, draw_corrections, read_corrections
from asrdistill.targets.entropy_coding import Tables, choose_classes, decode, encode, make_tables, quantize

# In steps. Of a Laplacian one value in 20 is not rounded to zero then; what is less is not coded. With half
# of it bytes and a student's gradient are the same, but there is more than twice as much to be decoded.
LEAST_MEAN_MAGNITUDE = 0.2
# Of a pdf-id that was never heard of in the sample.
LEAST_PRIOR = 1e-8
LEAST_PROBABILITY = 1e-12
# The same where corrections follow, which tell what is left. Of dense soft targets, float16, what is below is
# mostly rounding, and of corrected ones some is below zero: logarithms of that would take half of the bytes.
LEAST_CORRECTED = 1e-6
LEAST_UNIT = 0.01
# Number of corrections of an utterance, and the class of their distances.
_HEADER = "<IB"


class TransformConfig(Config):
    """Components, frequencies in time, rounded and entropy-coded."""

    kind: Literal["transform"] = Field("transform", description="log-posteriors as a picture is stored")
    step: float = Field(
        0.2, ge=0.005, description="coefficients are rounded to multiples of it: the bytes and the error"
    )
    block_frames: int = Field(16, ge=1, le=256, description="frames that are transformed together")
    max_components: int = Field(256, ge=1, description="components, at most")
    correction: float | None = Field(
        0.03,
        ge=LEAST_UNIT,
        le=1,
        description="probability that a correction adds or takes: the less, the more of them a frame has; "
        "null: no corrections, so that targets can be turned into those at another temperature",
    )
    sample_frames: int = Field(20_000, ge=1, description="frames that the components are learnt from")


@dataclass(frozen=True)
class Codebook:
    """What a decoder must know.

    Attributes:
        mean: float32 (P,), of the sample's log-posteriors.
        components: float32 (R, P).
        priors: float32 (P,), mean probabilities in the sample.
        coded: int32 (coded, 2), frequency and component of what is coded of a block, in this order.
        classes: uint8 (coded,), how far each is from zero.
        step: of the rounding.
        block_frames: L.
        correction: unit of the corrections; None: there are none.
        tables: of the entropy coder.
    """

    mean: np.ndarray
    components: np.ndarray
    priors: np.ndarray
    coded: np.ndarray
    classes: np.ndarray
    step: float
    block_frames: int
    correction: float | None
    tables: Tables

    @cached_property
    def basis(self) -> LogBasis:
        """The components as the loss wants them."""
        return LogBasis(torch.from_numpy(self.mean), torch.from_numpy(self.components))

    @cached_property
    def _cosines(self) -> np.ndarray:
        """Rows are frequencies, float32 (L, L), orthonormal."""
        matrix: np.ndarray = dct(np.eye(self.block_frames), axis=0, norm="ortho").astype(np.float32)
        return matrix

    @cached_property
    def _places(self) -> np.ndarray:
        """Where in a block what is coded stands, int64 (coded,)."""
        return self.coded[:, 0].astype(np.int64) * len(self.components) + self.coded[:, 1]

    @cached_property
    def _projection(self) -> torch.Tensor:
        """What log-probabilities are multiplied by, float32 (P, R + 1): to components, and to their mean."""
        priors = torch.from_numpy(self.priors)
        return torch.cat([priors * self.basis.components, (priors / priors.sum())[None]]).T.contiguous()

    @cached_property
    def _offsets(self) -> torch.Tensor:
        """The components, float32 (2, R), of a constant 1, and of the mean."""
        both = torch.stack([torch.ones_like(self.basis.mean), self.basis.mean])
        return both @ self._projection[:, :-1]

    def _project(self, soft_targets: torch.Tensor) -> torch.Tensor:
        """The components of soft targets, float32 (N, P): float32 (N, R)."""
        projected = soft_targets.clamp(min=_find_least(self.correction)).log_() @ self._projection
        return torch.addmm(
            projected[:, :-1] - self._offsets[1], projected[:, -1:], self._offsets[:1], alpha=-1
        )

    @cached_property
    def fingerprint(self) -> bytes:
        """What soft targets begin with that were written with this codebook, 4 bytes.

        A codebook that is learnt again may be another one: the last bit of a sum decides between components
        that are nearly alike. Nothing else would tell that what it decodes is rubbish.
        """
        return hashlib.sha256(self._serialize()).digest()[:4]

    def encode(self, soft_targets: np.ndarray, rng: np.random.Generator) -> bytes:
        """Write the soft targets of an utterance, float32 (N, P)."""
        projected = self._project(torch.from_numpy(soft_targets)).numpy()
        blocks = self._cosines @ _cut_into_blocks(projected, self.block_frames)
        flat = blocks.reshape(len(blocks), self.block_frames * len(self.components))
        kept = flat[:, self._places]
        integers = quantize(kept.ravel(), self.step)
        distances = self._correct(soft_targets, integers, rng)
        of_distances = choose_classes(np.array([np.abs(distances).mean() if len(distances) else 0]))
        classes = self._classes_of(len(blocks), len(distances), of_distances[0])
        header = struct.pack(_HEADER, len(distances), of_distances[0])
        return self.fingerprint + header + encode(np.concatenate([integers, distances]), classes, self.tables)

    def _classes_of(self, num_blocks: int, num_distances: int, of_distances: int) -> np.ndarray:
        """Of all integers of an utterance: its coefficients, block after block, and its corrections."""
        return np.concatenate(
            [np.tile(self.classes, num_blocks), np.full(num_distances, of_distances, np.uint8)]
        )

    def _correct(
        self, soft_targets: np.ndarray, integers: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """The corrections of what the coefficients, rounded to `integers`, tell, int32."""
        if self.correction is None:
            return np.empty(0, np.int32)
        told = LowRankTargets(self._restore(integers, len(soft_targets)), self.basis)
        rows = told.take(torch.arange(len(told))[None])[0].numpy()
        return draw_corrections(soft_targets, rows, self.correction, rng)

    def decode(self, content: bytes, num_frames: int) -> LowRankTargets:
        """Read those of an utterance.

        Raises:
            ValueError: not what was written with this codebook for so many frames.
        """
        if not content.startswith(self.fingerprint):
            raise ValueError("they were written with another codebook")
        content = content[len(self.fingerprint) :]
        if len(content) < struct.calcsize(_HEADER):
            raise ValueError("damaged")
        num_distances, of_distances = struct.unpack_from(_HEADER, content)
        num_pdfs, num_blocks = len(self.mean), -(-num_frames // self.block_frames)
        most = count_most(num_frames, num_pdfs, self.correction) if self.correction else 0
        if num_distances > most or of_distances >= len(self.tables.starts):
            raise ValueError("damaged")
        classes = self._classes_of(num_blocks, num_distances, of_distances)
        values = decode(content[struct.calcsize(_HEADER) :], classes, self.tables)
        integers, distances = np.split(values, [num_blocks * len(self.coded)])
        corrections = None
        if self.correction:
            corrections = read_corrections(distances, num_frames, num_pdfs, self.correction)
        return LowRankTargets(self._restore(integers, num_frames), self.basis, corrections)

    def _restore(self, integers: np.ndarray, num_frames: int) -> np.ndarray:
        """Coefficients, float16 (N, R), from what was coded."""
        num_blocks, num_components = -(-num_frames // self.block_frames), len(self.components)
        blocks = np.zeros((num_blocks, self.block_frames * num_components), np.float32)
        blocks[:, self._places] = integers.reshape(num_blocks, len(self.coded)) * np.float32(self.step)
        rows = self._cosines.T @ blocks.reshape(num_blocks, self.block_frames, num_components)
        return rows.reshape(-1, num_components)[:num_frames].astype(np.float16)

    def write(self, path: Path) -> None:
        """Publish it; the same codebook gives the same bytes."""
        with atomic_path(path) as temporary:
            temporary.write_bytes(self._serialize())

    def _serialize(self) -> bytes:
        arrays = {
            "mean": self.mean,
            "components": self.components,
            "priors": self.priors,
            "coded": self.coded,
            "classes": self.classes,
            "frequencies": self.tables.starts,
            "num_low_bits": self.tables.num_low_bits,
            "step": np.array([self.step]),
            "block_frames": np.array([self.block_frames]),
            "correction": np.array([self.correction or 0.0]),
        }
        return save({name: np.ascontiguousarray(array) for name, array in arrays.items()})

    @classmethod
    def read(cls, path: Path) -> "Codebook":
        """The codebook that was written.

        Raises:
            ValueError: it is damaged.
        """
        arrays = load_file(path)
        if "correction" not in arrays:
            raise ValueError(f"codebook {path}: of an earlier version, or damaged; dump again")
        tables = Tables(arrays.pop("frequencies"), arrays.pop("num_low_bits"))
        if not tables.are_whole or arrays["classes"].max(initial=0) >= len(tables.starts):
            raise ValueError(f"codebook {path}: damaged")
        step, block_frames = float(arrays.pop("step")[0]), int(arrays.pop("block_frames")[0])
        correction = float(arrays.pop("correction")[0]) or None
        if correction is not None and not LEAST_UNIT <= correction <= 1:
            raise ValueError(f"codebook {path}: damaged")
        return cls(**arrays, step=step, block_frames=block_frames, correction=correction, tables=tables)


def learn_codebook(sample: list[np.ndarray], config: TransformConfig) -> Codebook:
    """Learn components and what is to be coded from soft targets of some utterances, float32 (N, P) each."""
    soft = torch.from_numpy(np.concatenate(sample))
    priors = soft.mean(0).clamp(min=LEAST_PRIOR)
    deviations = _center(soft, priors, _find_least(config.correction))
    mean = deviations.mean(0)
    deviations -= mean
    components = _find_components(deviations * priors.sqrt(), config.max_components)
    projected = deviations * priors.sqrt() @ components.T
    lengths = [len(part) for part in sample]
    cosines = dct(np.eye(config.block_frames), axis=0, norm="ortho").astype(np.float32)
    magnitudes = [
        np.abs(cosines @ _cut_into_blocks(part.numpy(), config.block_frames)) / config.step
        for part in projected.split(lengths)
    ]
    means = np.concatenate(magnitudes).mean(0)
    num_components = int(np.flatnonzero((means >= LEAST_MEAN_MAGNITUDE).any(0)).max(initial=0)) + 1
    coded = np.argwhere(means[:, :num_components] >= LEAST_MEAN_MAGNITUDE)
    return Codebook(
        mean.numpy(),
        np.ascontiguousarray((components[:num_components] / priors.sqrt()).numpy()),
        priors.numpy(),
        coded.astype(np.int32),
        choose_classes(means[coded[:, 0], coded[:, 1]]),
        config.step,
        config.block_frames,
        config.correction,
        make_tables(),
    )


def _find_least(correction: float | None) -> float:
    """The probability that all lower ones are taken for."""
    return LEAST_PROBABILITY if correction is None else LEAST_CORRECTED


def _center(soft_targets: torch.Tensor, priors: torch.Tensor, least: float) -> torch.Tensor:
    """Log-probabilities less their mean over pdf-ids, each frame's, which a softmax takes no notice of."""
    logs = soft_targets.clamp(min=least).log()
    return logs - (logs @ (priors / priors.sum()))[:, None]


def _find_components(weighted: torch.Tensor, most: int) -> torch.Tensor:
    """The directions of most variance, float32 (R, P), orthonormal."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _, _, directions = torch.svd_lowrank(weighted, q=min(most, *weighted.shape), niter=4)
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    return (directions * largest.sign()).T


def _cut_into_blocks(rows: np.ndarray, block_frames: int) -> np.ndarray:
    """Rows (N, R) as (blocks, L, R), the last one repeated to the end of its block."""
    missing = -len(rows) % block_frames
    filled = np.concatenate([rows, np.repeat(rows[-1:], missing, 0)])
    return filled.reshape(-1, block_frames, rows.shape[1])
