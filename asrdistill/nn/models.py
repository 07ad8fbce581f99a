"""All architectures under their names."""

from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.architecture import AcousticModelConfig
from asrdistill.nn.conformer import Conformer
from asrdistill.nn.dnn import Dnn
from asrdistill.nn.tdnn import Tdnn

ARCHITECTURES: dict[str, type[AcousticModel]] = {"dnn": Dnn, "tdnn": Tdnn, "conformer": Conformer}


def build_model(
    config: AcousticModelConfig, num_bins: int, num_pdfs: int, num_members: int = 1
) -> AcousticModel:
    """A stack of models of the architecture that the recipe asks for, weights not yet drawn."""
    return ARCHITECTURES[config.architecture](config, num_bins, num_pdfs, num_members)
