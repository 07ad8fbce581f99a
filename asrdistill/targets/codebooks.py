"""The codecs of a folder of shards: what one has to learn is learnt once, whoever needs it first."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from asrdistill.targets.claims import share_out
from asrdistill.targets.codecs import Codec, CodecConfig, open_codec
from asrdistill.targets.shards import codebook_path
from asrdistill.targets.transform import TransformConfig, learn_codebook


def provide_codecs(
    folder: Path,
    config: CodecConfig,
    temperatures: Sequence[float],
    draw_sample: Callable[[int], list[np.ndarray]],
) -> dict[float, Codec]:
    """The codec of every temperature, to write a folder's shards with.

    Args:
        folder: of the shards.
        config: of the codec.
        temperatures: T of them.
        draw_sample: gives averages, float32 (T, N, P), of utterances that have about so many frames together;
            asked once, and only where a codebook is missing.
    """
    paths = {temperature: codebook_path(folder, temperature) for temperature in temperatures}
    if isinstance(config, TransformConfig):
        missing = {path.name: place for place, path in enumerate(paths.values()) if not path.is_file()}
        sample: list[np.ndarray] = []
        for name in share_out(folder, list(missing)):
            sample = sample or draw_sample(config.sample_frames)
            learn_codebook([averages[missing[name]] for averages in sample], config).write(folder / name)
    return {temperature: open_codec(config, path) for temperature, path in paths.items()}
