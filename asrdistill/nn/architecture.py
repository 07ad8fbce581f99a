"""What an acoustic model is built like: chosen in the recipe, for teachers and student alike."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from asrdistill.config import Config
from asrdistill.features.context import ContextConfig


class TdnnConfig(Config):
    """Time-delay network: convolutions over time, each on the one before (Peddinti et al. 2015)."""

    kernel_size: int = Field(3, ge=1, description="frames that a convolution sees")
    dilations: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 1, 3, 3),
        min_length=1,
        description="frames between them, layer by layer; the last is repeated",
    )

    def dilations_of(self, num_hidden_layers: int) -> tuple[int, ...]:
        """The dilation of every layer."""
        missing = num_hidden_layers - len(self.dilations)
        return (*self.dilations, *self.dilations[-1:] * missing)[:num_hidden_layers]


class ConformerConfig(Config):
    """Self-attention and convolution over the whole utterance (Gulati et al. 2020), made small."""

    num_heads: int = Field(4, ge=1, description="attention heads; they divide hidden_size")
    kernel_size: int = Field(15, ge=1, description="frames that the depthwise convolution sees, odd")


class AcousticModelConfig(Config):
    """Architecture of an acoustic model, teacher or student."""

    architecture: Literal["dnn", "tdnn", "conformer"] = Field(
        "dnn",
        description="dnn: feed-forward over a context window, as in the paper; "
        "tdnn: convolutions over time; conformer: sees the whole utterance",
    )
    num_hidden_layers: int = Field(
        4, ge=1, description="hidden layers, convolutions or blocks (Hinton et al. 2015: 8)"
    )
    hidden_size: int = Field(512, ge=1, description="units a layer (Hinton et al. 2015: 2560)")
    context: ContextConfig = Field(ContextConfig(), description="dnn: frames that the model sees")
    tdnn: TdnnConfig = Field(TdnnConfig(), description="tdnn: its convolutions")
    conformer: ConformerConfig = Field(ConformerConfig(), description="conformer: its blocks")

    @model_validator(mode="after")
    def _check_conformer(self) -> Self:
        if self.architecture == "conformer" and self.hidden_size % (2 * self.conformer.num_heads):
            raise ValueError(
                f"hidden_size is {self.hidden_size}, conformer.num_heads {self.conformer.num_heads}: "
                "each head needs the same, even number of units"
            )
        if self.conformer.kernel_size % 2 == 0:
            raise ValueError(f"conformer.kernel_size is {self.conformer.kernel_size}, expected an odd number")
        return self
