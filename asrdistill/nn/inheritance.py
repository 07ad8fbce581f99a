"""A student that starts from the weights of a teacher of its own architecture.

Fewer layers: one in N / n of the teacher's N, evenly spaced, the first of them its first, because no other
reads the frames; the output layer is its last. Of a time-delay network those of the same dilation go first.
Fewer units: those that matter most are kept, in the layer that makes them and in the one that reads them.
Source: Sanh et al. (2019), arXiv:1910.01108, section 3: every other layer. Norms of weights as what counts:
Li et al. (2017), arXiv:1608.08710.
Differs: a unit counts by what it reads times how it is read, which stays when ReLU lets one be scaled up and
the other down; a unit's own norm does not. Blocks of a conformer add to what they read, as DistilBERT's do,
so that one may be left out; a layer of the other networks then reads units of another meaning.
Shapes: N layers of the teacher, n of the student, D inputs and H units of a layer; kernels have taps before.
"""

from collections.abc import Sequence

import torch

from asrdistill.errors import RecipeError
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.conformer import Conformer
from asrdistill.nn.dnn import Dnn
from asrdistill.nn.tdnn import Tdnn

# Weight (..., D, H) and bias (1, H) of a layer.
Layer = tuple[torch.Tensor, torch.Tensor]


@torch.no_grad()
def inherit(student: AcousticModel, teacher: AcousticModel) -> None:
    """Give all members of the student the weights of the teacher, or those of them that it has room for.

    The members are then equal: in training they part by dropout and by what they see.

    Args:
        student: M members; weights are replaced in place.
        teacher: a stack of one.

    Raises:
        RecipeError: the student is deeper or wider than the teacher, or differs in more than depth and width;
            or it is a narrower conformer: its norms read all units, so that each of them counts for all.
    """
    assert teacher.num_members == 1, teacher.num_members
    _check_likeness(student, teacher)
    _check_size(student, teacher)
    if isinstance(student, Conformer) and isinstance(teacher, Conformer):
        _inherit_blocks(student, teacher)
    else:
        _inherit_layers(student, teacher)


def choose_layers(student_dilations: Sequence[int], teacher_dilations: Sequence[int]) -> list[int]:
    """Which of the teacher's layers become the student's: n of N, in order, the first its first.

    Each is, of those with the dilation of the student's layer, the one nearest to where even spacing has it,
    floor(i * N / n): taps that are further apart see something else. Where none is left with that dilation,
    it is the nearest of all, and its taps change their distance.
    """
    num_layers, num_found = len(student_dilations), len(teacher_dilations)
    chosen = [0]
    for layer, dilation in enumerate(student_dilations[1:], 1):
        wanted = layer * num_found // num_layers
        # As many are left over as layers are to come.
        free = range(chosen[-1] + 1, num_found - (num_layers - 1 - layer))
        ranks = [(teacher_dilations[place] != dilation, abs(place - wanted), place) for place in free]
        chosen.append(min(ranks)[-1])
    return chosen


def _check_likeness(student: AcousticModel, teacher: AcousticModel) -> None:
    of_teacher = _list_what_must_agree(teacher)
    for name, found in _list_what_must_agree(student).items():
        if found != of_teacher.get(name):
            raise RecipeError(
                f"student: its {name} is {found}, that of the teacher whose weights it is to start from "
                f"{of_teacher.get(name)}; expected the same; make them equal, or start from drawn weights"
            )


def _list_what_must_agree(model: AcousticModel) -> dict[str, object]:
    """Under their names in the recipe, the architecture first."""
    config = model.config
    of_architecture: dict[str, dict[str, object]] = {
        "dnn": {"context.past": config.context.past, "context.future": config.context.future},
        "tdnn": {"tdnn.kernel_size": config.tdnn.kernel_size},
        "conformer": {
            "conformer.kernel_size": config.conformer.kernel_size,
            "conformer.num_heads": config.conformer.num_heads,
        },
    }
    return {
        "architecture": config.architecture,
        "number of bins of a frame": model.num_bins,
        "number of pdf-ids": model.num_pdfs,
        **of_architecture[config.architecture],
    }


def _check_size(student: AcousticModel, teacher: AcousticModel) -> None:
    for name in ("num_hidden_layers", "hidden_size"):
        found, most = getattr(student.config, name), getattr(teacher.config, name)
        if found > most:
            raise RecipeError(
                f"student: {name} is {found}, that of the teacher whose weights it is to start from {most}; "
                f"expected at most {most}; lower {name} of the student, or start from drawn weights"
            )
    found, most = student.config.hidden_size, teacher.config.hidden_size
    if isinstance(student, Conformer) and found < most:
        raise RecipeError(
            f"student: hidden_size is {found}, that of the teacher whose weights it is to start from {most}; "
            "expected the same, because a conformer's norms read all units; make them equal and lower "
            "num_hidden_layers, or start from drawn weights"
        )


def _inherit_blocks(student: Conformer, teacher: Conformer) -> None:
    alike = [1] * len(teacher.blocks)
    chosen = choose_layers(alike[: len(student.blocks)], alike)
    inherited = [*teacher.parameters(recurse=False)]
    inherited += [parameter for place in chosen for parameter in teacher.blocks[place].parameters()]
    for parameter, values in zip(student.parameters(), inherited, strict=True):
        parameter.copy_(values)


def _inherit_layers(student: AcousticModel, teacher: AcousticModel) -> None:
    *hidden, output = [(weight[0], bias[0]) for weight, bias in _layers_of(teacher)]
    chosen = choose_layers(_dilations_of(student), _dilations_of(teacher))
    layers = [*(hidden[place] for place in chosen), output]
    for number in range(len(chosen)):
        maker, reader = layers[number : number + 2]
        layers[number : number + 2] = _cut_units(maker, reader, student.config.hidden_size)
    for own, values in zip(_layers_of(student), layers, strict=True):
        own[0].copy_(values[0])
        own[1].copy_(values[1])


def _layers_of(model: AcousticModel) -> list[Layer]:
    """Weights (M, ..., D, H) and biases (M, 1, H), the output layer last."""
    assert isinstance(model, Dnn | Tdnn)
    layers = list(zip(model.weights, model.biases, strict=True))
    return [*layers, (model.output[0], model.output[1])] if isinstance(model, Tdnn) else layers


def _dilations_of(model: AcousticModel) -> Sequence[int]:
    """Of the hidden layers; where nothing is convolved they are all the same."""
    return model.dilations if isinstance(model, Tdnn) else [1] * model.config.num_hidden_layers


def _cut_units(maker: Layer, reader: Layer, size: int) -> tuple[Layer, Layer]:
    """A layer and the one that reads it, with as many units between them, in the order in which they were."""
    (weight, bias), (read, read_bias) = maker, reader
    made_of = torch.cat([weight.flatten(0, -2), bias]).norm(dim=0)
    importance = made_of * read.movedim(-2, 0).flatten(1).norm(dim=1)
    kept = importance.argsort(descending=True, stable=True)[:size].sort().values
    return (weight[..., kept], bias[..., kept]), (read[..., kept, :], read_bias)
