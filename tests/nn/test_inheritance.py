"""Inherited weights: what a network was built of by hand, and what cutting must not change."""

import pytest
import torch

from asrdistill.errors import RecipeError
from asrdistill.features.context import ContextConfig
from asrdistill.nn.acoustic_model import AcousticModel
from asrdistill.nn.architecture import AcousticModelConfig, ConformerConfig, TdnnConfig
from asrdistill.nn.conformer import Conformer
from asrdistill.nn.dnn import Dnn
from asrdistill.nn.inheritance import choose_layers, inherit
from asrdistill.nn.models import build_model
from asrdistill.nn.tdnn import Tdnn

NUM_BINS, NUM_PDFS, SIZE, SEEDS = 4, 6, 16, (1, 2, 3)
ARCHITECTURES = ("dnn", "tdnn", "conformer")


def make_config(architecture: str, num_hidden_layers: int, **changes: object) -> AcousticModelConfig:
    config = AcousticModelConfig(
        architecture=architecture,
        num_hidden_layers=num_hidden_layers,
        hidden_size=SIZE,
        context=ContextConfig(past=1, future=2),
        tdnn=TdnnConfig(kernel_size=3, dilations=(1, 2)),
        conformer=ConformerConfig(num_heads=2, kernel_size=5),
    )
    return config.model_copy(update=changes)


def make_teacher(architecture: str, num_hidden_layers: int, **changes: object) -> AcousticModel:
    config = make_config(architecture, num_hidden_layers, **changes)
    model = build_model(config, NUM_BINS, NUM_PDFS).initialize([7])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias" in name or "gain" in name or name == "output.1":
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def make_student(architecture: str, num_hidden_layers: int, **changes: object) -> AcousticModel:
    config = make_config(architecture, num_hidden_layers, **changes)
    return build_model(config, NUM_BINS, NUM_PDFS, len(SEEDS)).initialize(SEEDS)


def draw_frames() -> torch.Tensor:
    return torch.randn(30, NUM_BINS, generator=torch.Generator().manual_seed(1)).half()


def assert_all_members_say(model: AcousticModel, expected: torch.Tensor) -> None:
    """Expected: (1, L, P). The logits are worth comparing only where they are not all alike."""
    assert expected.std() > 0.05
    found = model.compute_logits(draw_frames())
    torch.testing.assert_close(found, expected.expand_as(found), atol=1e-5, rtol=1e-5)


def draw_order(size: int) -> torch.Tensor:
    return torch.randperm(size, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_student_of_the_same_size_is_its_teacher(architecture: str) -> None:
    teacher, student = make_teacher(architecture, 3), make_student(architecture, 3)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    inherit(student, teacher)
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    for name, tensor in student.state_dict().items():
        assert all(torch.equal(of_member, before[name][0]) for of_member in tensor), name
    assert_all_members_say(student, teacher.compute_logits(draw_frames()))
    assert all(parameter.requires_grad for parameter in student.parameters())


@pytest.mark.parametrize(("num_teacher", "num_student"), [(4, 2), (6, 3), (5, 1)])
def test_every_other_layer_of_a_dnn(num_teacher: int, num_student: int) -> None:
    """Against the layers called one after another; every other one of six is the first, third and fifth."""
    teacher, student = make_teacher("dnn", num_teacher), make_student("dnn", num_student)
    inherit(student, teacher)
    assert isinstance(teacher, Dnn)
    frames = draw_frames().float()
    edges = torch.cat([frames[:1], frames, frames[-1:], frames[-1:]])
    hidden = torch.cat([edges[shift : shift + len(frames)] for shift in range(4)], 1)
    for place in [0, 2, 4][:num_student]:
        hidden = torch.relu(hidden @ teacher.weights[place][0] + teacher.biases[place][0])
    assert_all_members_say(student, (hidden @ teacher.weights[-1][0] + teacher.biases[-1][0])[None].detach())


def test_every_other_block_of_a_conformer() -> None:
    """Against the teacher without the others: a block that adds nothing to its input is none."""
    teacher, student = make_teacher("conformer", 4), make_student("conformer", 2)
    inherit(student, teacher)
    assert isinstance(teacher, Conformer)
    whole = teacher.compute_logits(draw_frames())
    with torch.no_grad():
        for name, parameter in teacher.named_parameters():
            is_output = name.endswith(("attention_output", "convolution_output", "narrow_weight"))
            if is_output and name.startswith(("blocks.1.", "blocks.3.")):
                parameter.zero_()
    without = teacher.compute_logits(draw_frames())
    assert (without - whole).abs().max() > 0.01
    assert_all_members_say(student, without)


def test_a_tdnn_takes_layers_of_its_own_dilations() -> None:
    """Dilations 1 2 2 2 of a teacher, 1 2 of a student: the third layer, where even spacing has it."""
    teacher, student = make_teacher("tdnn", 4), make_student("tdnn", 2)
    inherit(student, teacher)
    assert isinstance(teacher, Tdnn)
    assert isinstance(student, Tdnn)
    assert student.dilations == (1, 2)
    for own, place in zip(student.weights, (0, 2), strict=True):
        assert torch.equal(own, teacher.weights[place].expand_as(own))
    for own, of_teacher in zip(student.output, teacher.output, strict=True):
        assert torch.equal(own, of_teacher.expand_as(own))


@pytest.mark.parametrize(
    ("of_student", "of_teacher", "expected"),
    [
        ([1] * 6, [1] * 12, [0, 2, 4, 6, 8, 10]),
        ([1] * 3, [1] * 4, [0, 1, 2]),
        ([1] * 2, [1] * 5, [0, 2]),
        ([1] * 4, [1] * 4, [0, 1, 2, 3]),
        ([1, 3], [1, 1, 1, 3], [0, 3]),
        ([1, 1, 3], [1, 1, 3, 3, 3, 3], [0, 1, 4]),
        ([1, 1, 3, 3], [1, 1, 3, 3, 3, 3, 3, 3], [0, 1, 4, 6]),
        # None of its dilation, and none that would leave too few: the nearest.
        ([2, 2], [1, 1, 1, 1], [0, 2]),
        ([1, 3, 1, 1], [1, 1, 1, 3], [0, 1, 2, 3]),
    ],
)
def test_layers_are_evenly_spaced_but_for_their_dilations(
    of_student: list[int], of_teacher: list[int], expected: list[int]
) -> None:
    assert choose_layers(of_student, of_teacher) == expected


def list_layers(model: AcousticModel) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Weights and biases, the output layer last."""
    assert isinstance(model, Dnn | Tdnn)
    layers = [*zip(model.weights, model.biases, strict=True)]
    return [*layers, (model.output[0], model.output[1])] if isinstance(model, Tdnn) else layers


def hide_among_dead_units(small: AcousticModel, wide: AcousticModel) -> None:
    """Give the wide one the units of the other; the rest see more than these do, but nobody reads them."""
    layers = list_layers(small)
    read_from = torch.arange(layers[0][0].shape[-2])
    with torch.no_grad():
        for number, ((weight, bias), (wide_weight, wide_bias)) in enumerate(
            zip(layers, list_layers(wide), strict=True)
        ):
            num_units = wide_bias.shape[-1]
            is_last = number == len(layers) - 1
            places = torch.arange(num_units) if is_last else draw_order(num_units)[:SIZE].sort().values
            is_dead = torch.ones(wide_weight.shape[-2], dtype=torch.bool)
            is_dead[read_from] = False
            wide_weight *= 10
            wide_weight[..., is_dead, :] = 0
            wide_weight[..., read_from[:, None], places] = weight
            wide_bias[..., places] = bias
            read_from = places


@pytest.mark.parametrize("architecture", ["dnn", "tdnn"])
def test_units_that_nobody_reads_are_the_first_to_go(architecture: str) -> None:
    small, wide = make_teacher(architecture, 3), make_teacher(architecture, 3, hidden_size=2 * SIZE)
    hide_among_dead_units(small, wide)
    expected = small.compute_logits(draw_frames())
    assert_all_members_say(wide, expected)
    student = make_student(architecture, 3)
    inherit(student, wide)
    assert_all_members_say(student, expected)


@pytest.mark.parametrize("architecture", ["dnn", "tdnn"])
def test_units_count_by_what_they_read_and_how_they_are_read(architecture: str) -> None:
    """One hidden layer, units of known importance, scaled up on the way in and down on the way out."""
    teacher, student = make_teacher(architecture, 1), make_student(architecture, 1, hidden_size=5)
    (weight, bias), (read, read_bias) = list_layers(teacher)
    order, scales = draw_order(SIZE), 4.0 ** draw_order(SIZE)
    with torch.no_grad():
        weight[..., order[-1]] *= 0.001  # what it reads is its bias
        for rank, unit in enumerate(order):
            made_of = torch.cat([weight[..., unit].flatten(), bias[..., unit].flatten()]).norm()
            weight[..., unit] *= scales[unit] / made_of
            bias[..., unit] *= scales[unit] / made_of
            read[:, unit] *= (rank + 1) / (scales[unit] * read[:, unit].norm())
        kept = order[-5:].sort().values
        all_read = read.clone()
        read.zero_()
        read[:, kept] = all_read[:, kept]
        expected = teacher.compute_logits(draw_frames())
        read.copy_(all_read)
    inherit(student, teacher)
    assert_all_members_say(student, expected)
    own_read, own_bias = list_layers(student)[1]
    assert torch.equal(own_read, read[:, kept].expand_as(own_read))
    assert torch.equal(own_bias, read_bias.expand_as(own_bias))


@pytest.mark.parametrize("architecture", ["dnn", "tdnn"])
def test_fewer_layers_and_fewer_units_at_once(architecture: str) -> None:
    """Layers are left out first: their units are not asked who reads them."""
    teacher = make_teacher(architecture, 4, hidden_size=2 * SIZE)
    middle, student, twice = (make_student(architecture, 2, hidden_size=n * SIZE) for n in (2, 1, 1))
    inherit(student, teacher)
    inherit(middle, teacher)
    inherit(twice, middle.select_members([0]))
    assert_all_members_say(student, twice.compute_logits(draw_frames())[:1])


@pytest.mark.parametrize(
    ("architecture", "changes", "message"),
    [
        ("dnn", {"num_hidden_layers": 4}, "num_hidden_layers is 4, .* 3; expected at most 3; lower"),
        ("tdnn", {"hidden_size": 20}, "hidden_size is 20, .* 16; expected at most 16; lower"),
        ("conformer", {"num_hidden_layers": 4}, "num_hidden_layers is 4"),
        ("conformer", {"hidden_size": 8}, "hidden_size is 8, .* 16; expected the same, because a conformer"),
        ("dnn", {"architecture": "tdnn"}, "architecture is tdnn, .* dnn; expected the same"),
        ("dnn", {"context": ContextConfig(past=2, future=2)}, r"context\.past is 2, .* 1; expected the same"),
        ("dnn", {"context": ContextConfig(past=1, future=1)}, r"context\.future is 1, .* 2"),
        ("tdnn", {"tdnn": TdnnConfig(kernel_size=2)}, r"tdnn\.kernel_size is 2, .* 3"),
        ("conformer", {"conformer": ConformerConfig(num_heads=4, kernel_size=5)}, r"num_heads is 4, .* 2"),
        ("conformer", {"conformer": ConformerConfig(num_heads=2, kernel_size=7)}, r"kernel_size is 7, .* 5"),
    ],
)
def test_a_student_that_does_not_fit_is_told_why_and_left_alone(
    architecture: str, changes: dict[str, object], message: str
) -> None:
    config = make_config(architecture, 3).model_copy(update=changes)
    student = build_model(config, NUM_BINS, NUM_PDFS, 2).initialize([1, 2])
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    with pytest.raises(RecipeError, match=rf"^student: .*{message}.* start from drawn weights$"):
        inherit(student, make_teacher(architecture, 3))
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())


@pytest.mark.parametrize(
    ("num_bins", "num_pdfs", "message"),
    [(NUM_BINS + 1, NUM_PDFS, "bins of a frame is 5, .* 4"), (NUM_BINS, NUM_PDFS + 1, "pdf-ids is 7, .* 6")],
)
def test_other_frames_or_targets_are_refused(num_bins: int, num_pdfs: int, message: str) -> None:
    student = build_model(make_config("tdnn", 2), num_bins, num_pdfs)
    with pytest.raises(RecipeError, match=message):
        inherit(student, make_teacher("tdnn", 2))


def test_what_another_architecture_is_built_like_does_not_matter() -> None:
    """A recipe has settings for every architecture; those of one that is not there are not compared."""
    teacher, student = make_teacher("dnn", 2), make_student("dnn", 2, tdnn=TdnnConfig(kernel_size=9))
    inherit(student, teacher)
    assert_all_members_say(student, teacher.compute_logits(draw_frames()))
