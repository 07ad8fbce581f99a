"""How soft targets are written down: dense, the largest, a sample, or as a picture is stored.

One file an utterance and temperature, whatever the codec. Of the first three it is a numpy array that
anybody reads: `dense` float16 (N, P); `top_k` records (N,) of `pdf_ids` (K,), `probabilities` float16 (K,)
and `rest`, what all others have together; `sampled` pdf-ids (N, draws), each standing for 1 / draws.
`transform` is read by `asrdistill.targets.transform`.
Shapes: N frames, P pdf-ids.
"""

import io
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from asrdistill.config import Config
from asrdistill.nn.soft_targets import DenseTargets, LogBasis, LowRankTargets, SoftTargets, SparseTargets
from asrdistill.targets.transform import Codebook, TransformConfig


class DenseConfig(Config):
    """A probability for every tied state."""

    kind: Literal["dense"] = Field("dense", description="all probabilities, float16")


class TopKConfig(Config):
    """The largest probabilities of each frame, and what the others have together."""

    kind: Literal["top_k"] = Field("top_k", description="the largest probabilities and the rest's sum")
    num_kept: int = Field(16, ge=1, description="probabilities that are kept of a frame")


class SampledConfig(Config):
    """Tied states drawn by their probabilities: on average the soft targets themselves."""

    kind: Literal["sampled"] = Field("sampled", description="tied states drawn by their probabilities")
    num_draws: int = Field(16, ge=1, description="draws a frame")


CodecConfig = Annotated[
    DenseConfig | TopKConfig | SampledConfig | TransformConfig, Field(discriminator="kind")
]


def describe_codec(config: CodecConfig) -> str:
    """A codec as a setting: `{kind: top_k, num_kept: 8}`, what has its default left out."""
    values = config.model_dump(exclude_defaults=True)
    described = {"kind": config.kind, **values}.items()
    return "{" + ", ".join(f"{key}: {'null' if value is None else value}" for key, value in described) + "}"


class Codec(ABC):
    """Writes and reads soft targets made at one temperature.

    Attributes:
        extension: of its files.
        fingerprint: what all its files begin with; those that do not are another codec's.
    """

    extension = "npy"
    fingerprint = b""

    @abstractmethod
    def encode(self, soft_targets: np.ndarray, rng: np.random.Generator) -> bytes:
        """Write those of an utterance, float32 (N, P), every row of which sums to 1."""

    @abstractmethod
    def decode(self, content: bytes, num_frames: int) -> SoftTargets:
        """Read those of an utterance of N frames."""


class DenseCodec(Codec):
    """See `DenseConfig`."""

    def encode(self, soft_targets: np.ndarray, rng: np.random.Generator) -> bytes:
        return save_array(soft_targets.astype(np.float16))

    def decode(self, content: bytes, num_frames: int) -> DenseTargets:
        return DenseTargets(load_array(content))


class TopKCodec(Codec):
    """See `TopKConfig`. Source: Hinton et al. keep all; the rest as one class: Anshumann et al. (2025)."""

    def __init__(self, config: TopKConfig) -> None:
        self.num_kept = config.num_kept

    def encode(self, soft_targets: np.ndarray, rng: np.random.Generator) -> bytes:
        num_pdfs = soft_targets.shape[1]
        kept = min(self.num_kept, num_pdfs)
        pdf_ids = np.argpartition(-soft_targets, kept - 1, axis=1)[:, :kept]
        pdf_ids = np.sort(pdf_ids, axis=1)
        probabilities = np.take_along_axis(soft_targets, pdf_ids, 1)
        layout = [
            ("pdf_ids", _id_type(num_pdfs), (kept,)),
            ("probabilities", "<f2", (kept,)),
            ("rest", "<f2"),
        ]
        records = np.empty(len(soft_targets), layout)
        records["pdf_ids"], records["probabilities"] = pdf_ids, probabilities
        others = np.take_along_axis(soft_targets, pdf_ids, 1).sum(1, dtype=np.float64)
        records["rest"] = np.maximum(1 - others, 0) if kept < num_pdfs else 0
        return save_array(records)

    def decode(self, content: bytes, num_frames: int) -> SparseTargets:
        records = load_array(content)
        kept = records["pdf_ids"].shape[1]
        return SparseTargets(
            kept * np.arange(len(records) + 1),
            records["pdf_ids"].astype(np.int32).ravel(),
            records["probabilities"].astype(np.float32).ravel(),
            records["rest"].astype(np.float32),
        )


class SampledCodec(Codec):
    """See `SampledConfig`.

    One random number a frame, and draws at equal distances along the sum of probabilities: each tied state
    is drawn as often as it should be on average, and never more than one draw off.
    Source: Anshumann et al. (2025), arXiv:2503.16870; systematic sampling: Madow & Madow (1944).
    Differs: systematic in place of independent draws, whose variance is larger.
    """

    def __init__(self, config: SampledConfig) -> None:
        self.num_draws = config.num_draws

    def encode(self, soft_targets: np.ndarray, rng: np.random.Generator) -> bytes:
        num_frames, num_pdfs = soft_targets.shape
        sums = np.cumsum(soft_targets, 1, dtype=np.float64)
        passed = np.floor(sums / sums[:, -1:] * self.num_draws + rng.random((num_frames, 1)))
        counts = np.diff(passed, axis=1, prepend=0).astype(int)
        drawn = np.repeat(np.nonzero(counts)[1], counts[counts > 0]).reshape(num_frames, self.num_draws)
        return save_array(drawn.astype(_id_type(num_pdfs)))

    def decode(self, content: bytes, num_frames: int) -> SparseTargets:
        drawn = load_array(content)
        num_draws = drawn.shape[1]
        return SparseTargets(
            num_draws * np.arange(len(drawn) + 1),
            drawn.astype(np.int32).ravel(),
            np.full(drawn.size, np.float32(1 / num_draws)),
            None,
        )


class TransformCodec(Codec):
    """See `TransformConfig`."""

    extension = "transform"

    def __init__(self, codebook: Codebook, tempering: float) -> None:
        self.codebook, self.fingerprint = codebook, codebook.fingerprint
        self.basis = LogBasis(tempering * codebook.basis.mean, tempering * codebook.basis.components)

    def encode(self, soft_targets: np.ndarray, rng: np.random.Generator) -> bytes:
        return self.codebook.encode(soft_targets, rng)

    def decode(self, content: bytes, num_frames: int) -> LowRankTargets:
        decoded = self.codebook.decode(content, num_frames)
        return LowRankTargets(decoded.coefficients, self.basis, decoded.corrections)


def open_codec(config: CodecConfig, codebook_path: Path, tempering: float = 1.0) -> Codec:
    """The codec of a dump.

    Args:
        config: of the codec.
        codebook_path: where its codebook lies, if it has one.
        tempering: what log-probabilities are multiplied by when they are read: the temperature at which they
            were made over that at which they are wanted.
    """
    if isinstance(config, TransformConfig):
        assert tempering == 1 or config.correction is None, "corrections cannot be tempered"
        return TransformCodec(Codebook.read(codebook_path), tempering)
    assert tempering == 1, "only log-probabilities can be tempered"
    if isinstance(config, TopKConfig):
        return TopKCodec(config)
    return SampledCodec(config) if isinstance(config, SampledConfig) else DenseCodec()


def _id_type(num_pdfs: int) -> str:
    return "<u2" if num_pdfs <= 1 << 16 else "<u4"


def save_array(array: np.ndarray) -> bytes:
    """As numpy writes it to a file."""
    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    return content.getvalue()


def load_array(content: bytes) -> np.ndarray:
    """What numpy wrote to a file."""
    array: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
    return array
