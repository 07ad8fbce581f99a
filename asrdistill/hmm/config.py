"""How frames get their hard targets."""

from pydantic import Field

from asrdistill.config import Config
from asrdistill.hmm.imported import ImportedAlignmentConfig
from asrdistill.hmm.training import GmmConfig


class AlignmentConfig(Config):
    """Alignment by Gaussian models that are trained here."""

    gmm: GmmConfig = Field(GmmConfig(), description="the Gaussian models that align the speech")
    imported: ImportedAlignmentConfig | None = Field(
        None, description="alignment of another system, in place of our own; none: ours"
    )
    max_unaligned: float = Field(
        0.05, ge=0, le=1, description="share of the utterances of any split that may stay without alignment"
    )
