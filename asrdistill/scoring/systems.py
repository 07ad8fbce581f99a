"""What is scored: networks, alone or averaged, and the Gaussian mixtures that aligned the speech.

Shapes: T frames of F bins, P pdf-ids.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from asrdistill.experiment import Experiment
from asrdistill.hmm.aligner import Aligner
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.checkpoint import load_model
from asrdistill.nn.realignment import compute_scaled_log_likelihoods

# Densities of single frames differ more than posteriors do: the scale that Kaldi decodes mixtures with.
ALIGNER_ACOUSTIC_SCALE = 0.1


class System(Protocol):
    """An acoustic model as decoding sees it.

    Attributes:
        name: of its result's file.
        num_parameters: of all its members.
        flops_a_frame: likewise.
        acoustic_scale: of the search; None: that of the recipe.
        hears_cepstra: scores cepstra, 13 a frame; otherwise log-mel frames.
    """

    name: str
    num_parameters: int
    flops_a_frame: int
    acoustic_scale: float | None
    hears_cepstra: bool

    def score(self, frames: np.ndarray) -> np.ndarray:
        """Scaled log likelihoods, float32 (T, P), of an utterance's stored frames, float16 (T, F)."""


@dataclass
class NetworkSystem:
    """A network, or several whose posteriors are averaged, over the prior."""

    name: str
    model: AcousticModel
    log_priors: np.ndarray
    acoustic_scale: float | None = None
    hears_cepstra: bool = False

    def __post_init__(self) -> None:
        self.num_parameters = self.model.num_members * self.model.num_parameters
        self.flops_a_frame = self.model.num_members * self.model.count_flops_a_frame()
        self.model = self.model.in_compute_dtype()

    def score(self, frames: np.ndarray) -> np.ndarray:
        return compute_scaled_log_likelihoods(self.model, self.log_priors, frames)


@dataclass
class AlignerSystem:
    """The mixtures that made the hard targets, or were trained on those of another system."""

    aligner: Aligner
    name: str = "aligner"
    acoustic_scale: float | None = ALIGNER_ACOUSTIC_SCALE
    hears_cepstra: bool = True

    def __post_init__(self) -> None:
        gmm, matrix = self.aligner.gmm, self.aligner.transform.matrix
        of_transform = 0 if matrix is None else matrix.size
        self.num_parameters = 2 * gmm.means.size + len(gmm.log_weights) + of_transform
        # A coefficient and its square, each multiplied and added.
        self.flops_a_frame = 4 * gmm.means.size + 2 * of_transform

    def score(self, frames: np.ndarray) -> np.ndarray:
        return self.aligner.log_likelihoods(frames.astype(np.float32))


def list_systems(experiment: Experiment, log_priors: np.ndarray) -> Iterator[System]:
    """The aligner, each teacher, the ensemble, each student, each control: those that the experiment has."""
    align_dir = experiment.stage_dir("align")
    if (align_dir / "gmm.safetensors").is_file():
        yield AlignerSystem(Aligner.read(align_dir))
    models = {
        "teacher": experiment.stage_dir("teachers") / "model.safetensors",
        "student": experiment.stage_dir("student") / "model.safetensors",
    }
    controls = sorted(experiment.stage_dir("controls").glob("models/[!.]*.safetensors"))
    models |= {path.stem: path for path in controls if "." not in path.stem}
    for kind, path in models.items():
        if path.is_file():
            model, _ = load_model(path)
            for member in range(model.num_members):
                yield NetworkSystem(f"{kind}_{member:02d}", model.select_members([member]), log_priors)
            if kind == "teacher":
                yield NetworkSystem("ensemble", model, log_priors)
