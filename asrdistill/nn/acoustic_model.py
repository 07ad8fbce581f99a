"""What all acoustic models have in common: M networks of one architecture, computed as one.

Every parameter has a leading member axis; a single model is a stack of one. Weights are kept in float32,
products run in `compute_dtype`, logits come back in float32.
Shapes: M members, S utterances of at most L frames of F bins, B classified frames, H units, P pdf-ids.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from asrdistill.features.context import gather_windows
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.dropout import Dropout

# Length of the utterance that `count_flops_a_frame` takes, 5 s: attention costs more the longer it is.
FLOP_COUNT_FRAMES = 500
# torch 2.11 counts the products of attention on a GPU, but not in the kernel that a processor runs.
_CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


class AcousticModel(torch.nn.Module, ABC):
    """A stack of models.

    Attributes:
        reads_utterances: trained on whole utterances; otherwise on single frames in their windows.
        past: frames before a classified one that are to be there, repeated at an utterance's edge.
        future: those after it.
    """

    reads_utterances: ClassVar[bool]
    past: int
    future: int

    def __init__(self, config: AcousticModelConfig, num_bins: int, num_pdfs: int, num_members: int) -> None:
        super().__init__()
        self.config, self.num_bins, self.num_pdfs, self.num_members = config, num_bins, num_pdfs, num_members
        self.compute_dtype = torch.float32
        self._spreads: list[float | None] = []

    def new_parameter(
        self, *shape: int, spread: float | None = None, value: float = 0.0
    ) -> torch.nn.Parameter:
        """A parameter (M, *shape) that is drawn with this standard deviation, or starts with one value."""
        self._spreads.append(spread)
        return torch.nn.Parameter(torch.full((self.num_members, *shape), value))

    @abstractmethod
    def forward(
        self,
        inputs: torch.Tensor,
        lengths: torch.Tensor | None = None,
        dropout: Dropout | None = None,
        hidden: list[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Logits, float32 (M, B, P).

        Args:
            inputs: windows (M or 1, B, (past + 1 + future) * F); or, of a model that reads utterances, padded
                ones (S, past + L + future, F), and B is S * L: logits beyond an utterance's end mean nothing.
            lengths: int64 (S,), frames of each utterance; of windows: None.
            dropout: of hidden units, in training.
            hidden: where given, every hidden layer's output is appended, in the type computed in,
                (M, B, H): row n is that of the frame which row n of the logits is of.
        """

    def initialize(self, seeds: Sequence[int]) -> Self:
        """Draw initial weights; a member's depend on its own seed alone."""
        parameters = list(self.parameters())
        with torch.no_grad():
            for member, seed in enumerate(seeds):
                generator = torch.Generator().manual_seed(seed)
                for parameter, spread in zip(parameters, self._spreads, strict=True):
                    if spread is not None:
                        noise = torch.randn(parameter.shape[1:], generator=generator)
                        parameter[member] = spread * noise
        return self

    def select_members(self, members: Sequence[int]) -> Self:
        """A new stack of some of the members."""
        rows = list(members)
        return self._with_weights({name: tensor[rows] for name, tensor in self.state_dict().items()})

    @cached_property
    def members(self) -> list[Self]:
        """Each member as a stack of its own, of the same memory."""
        return [
            self._with_weights({name: tensor[m : m + 1] for name, tensor in self.state_dict().items()})
            for m in range(self.num_members)
        ]

    @classmethod
    def join(cls, stacks: Sequence["AcousticModel"]) -> "AcousticModel":
        """One stack of the members of several, which are alike in all but their weights."""
        first, states = stacks[0], [stack.state_dict() for stack in stacks]
        assert len({stack.compute_dtype for stack in stacks}) == 1
        return first._with_weights({name: torch.cat([s[name] for s in states]) for name in states[0]})

    def in_compute_dtype(self) -> Self:
        """The same model with weights in the type they compute in, to be asked many times, not trained.

        In float32 these are the model's own.
        """
        weights = {name: tensor.to(self.compute_dtype) for name, tensor in self.state_dict().items()}
        return self._with_weights(weights).requires_grad_(False)

    def _with_weights(self, weights: dict[str, torch.Tensor]) -> Self:
        with torch.device("meta"):  # no memory for weights that these replace
            num_members = len(next(iter(weights.values())))
            model = type(self)(self.config, self.num_bins, self.num_pdfs, num_members)
        model.compute_dtype = self.compute_dtype
        model.load_state_dict(weights, assign=True)
        return model

    @torch.inference_mode()
    def compute_logits(self, frames: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Logits, float32 (M, L, P), of one utterance's frames, float16 (L, F)."""
        frames = torch.as_tensor(frames)
        num_frames = len(frames)
        if not self.reads_utterances:
            starts = np.array([0, num_frames])
            windows = gather_windows(frames, starts, torch.arange(num_frames), self.past, self.future)
            logits: torch.Tensor = self(windows[None])
            return logits
        logits = self(self._pad(frames)[None], torch.tensor([num_frames]))
        return logits

    def compute_logits_of_several(self, utterances: Sequence[np.ndarray]) -> torch.Tensor:
        """Logits, float32 (M, N, P), of several utterances' frames, float16 (L, F) each, one after the other.

        Where it can, a model reads its weights once for all of them: those of ten members leave the cache.
        """
        found = [self.compute_logits(frames) for frames in utterances]
        return found[0] if len(found) == 1 else torch.cat(found, 1)

    def _pad(self, frames: torch.Tensor) -> torch.Tensor:
        """An utterance with the context of its first and last frame, (past + L + future, F)."""
        starts, after = np.array([0, len(frames)]), len(frames) - 1 + self.future
        return gather_windows(frames, starts, torch.tensor([0]), self.past, after).view(-1, frames.shape[1])

    @property
    def num_parameters(self) -> int:
        """Of one member."""
        return sum(parameter[0].numel() for parameter in self.parameters())

    def count_flops_a_frame(self) -> int:
        """Floating-point operations of one member for one frame, of a 5 s utterance, counted by torch.

        A multiplication and an addition are two.
        """
        one = self.select_members([0])
        one.compute_dtype = torch.float32
        with FlopCounterMode(display=False, custom_mapping={_CPU_ATTENTION: _count_attention}) as counter:
            one.compute_logits(torch.zeros(FLOP_COUNT_FRAMES, self.num_bins, dtype=torch.float16))
        return counter.get_total_flops() // FLOP_COUNT_FRAMES


def _count_attention(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any
) -> int:
    """Floating-point operations of attention, from the shapes of what it reads."""
    count: int = sdpa_flop_count(query, key, value)
    return count
