import math
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stages.data.datasets import DATASETS
from stages.edges.bad_input import BadInput
from stages.edges.parameters import PARAMETERS, shown
from tools.parameters import SECTIONS, read_parameters

GOOD = """
download: {dataset: mnist}
normalize: {scaling: unit, validation: 0}
model: {hidden_units: [512, 256, 128]}
train: {epochs: 10, batch_size: 32, learning_rate: 0.001, schedule: constant, seed: 42}
warp:
  {rotation: 0, scale: 0, shear: 0, shift: 0, elastic_amplitude: 0, elastic_smoothness: 5}
evaluate: {confidence: 0.95, worst: 25}
"""
NAMES = "download, normalize, model, train, warp, evaluate"


def read(text: str) -> dict[str, Any]:
    """Reads the text as params.yaml of the working directory."""
    PARAMETERS.write_text(text, encoding="utf-8")
    return read_parameters()


def with_value(key: str, value: object) -> str:
    """GOOD with another value for a key, section.name."""
    document = yaml.safe_load(GOOD)
    section, name = key.split(".")
    document[section][name] = value
    return yaml.safe_dump(document)


def message(text: str) -> str:
    with pytest.raises(BadInput) as problem:
        read(text)
    return str(problem.value)


@pytest.fixture(autouse=True, scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Not a folder a test: Hypothesis runs an example after another in one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("parameters"))
        yield


def test_the_projects_own_file_is_good() -> None:
    assert list(read_parameters(Path(__file__).parents[1] / PARAMETERS)) == NAMES.split(", ")


@pytest.mark.parametrize(
    ("key", "value", "what_would_do"),
    [
        ("download.dataset", "cifar", f"one of {', '.join(DATASETS)}"),
        ("download.dataset", None, f"one of {', '.join(DATASETS)}"),
        ("download.dataset", ["mnist"], f"one of {', '.join(DATASETS)}"),
        ("normalize.scaling", True, "unit or standard"),
        ("normalize.scaling", "Unit", "unit or standard"),
        ("normalize.validation", -1, "a whole number from 0, below the training images"),
        ("normalize.validation", 60_000, "a whole number from 0 to 59999"),
        ("normalize.validation", 0.1, "a whole number from 0, below the training images"),
        ("model.hidden_units", [], None),
        ("model.hidden_units", None, None),
        ("model.hidden_units", 512, None),
        ("model.hidden_units", "512", None),
        ("model.hidden_units", {"0": 512}, None),
        ("train.epochs", -3, "a whole number from 1 to 100000"),
        ("train.epochs", 0, "a whole number from 1 to 100000"),
        ("train.epochs", 100_001, "a whole number from 1 to 100000"),
        ("train.epochs", "ten", "a whole number from 1 to 100000"),
        ("train.epochs", "10", "a whole number from 1 to 100000"),
        ("train.epochs", True, "a whole number from 1 to 100000"),
        ("train.epochs", 10.5, "a whole number from 1 to 100000"),
        ("train.epochs", 10.0, "a whole number from 1 to 100000"),
        ("train.epochs", None, "a whole number from 1 to 100000"),
        ("train.batch_size", 0, "a whole number from 1 to the training images"),
        ("train.batch_size", 60_001, "a whole number from 1 to 60000"),
        ("train.learning_rate", 0, "a finite number greater than 0"),
        ("train.learning_rate", -0.001, "a finite number greater than 0"),
        ("train.learning_rate", math.inf, "a finite number greater than 0"),
        ("train.learning_rate", math.nan, "a finite number greater than 0"),
        ("train.learning_rate", "fast", "a finite number greater than 0"),
        ("train.learning_rate", True, "a finite number greater than 0"),
        ("train.schedule", "cosinus", "constant or cosine"),
        ("warp.rotation", 91, "a number from 0 to 90: degrees, either way"),
        ("warp.shift", math.nan, "a number from 0 to 14: pixels, in each direction"),
        (
            "warp.scale",
            "0.1",
            "a number from 0 to 0.5: of the width and of the height, 0.1: from 0.9 to 1.1 times",
        ),
        ("train.seed", -1, "a whole number from 0 to 4294967295"),
        ("train.seed", 2**32, "a whole number from 0 to 4294967295"),
        ("evaluate.confidence", 0.49, "a number from 0.5 to 0.9999"),
        ("evaluate.confidence", 1, "a number from 0.5 to 0.9999"),
        ("evaluate.confidence", math.nan, "a number from 0.5 to 0.9999"),
        ("evaluate.worst", 0, "a whole number from 1 to 100"),
        ("evaluate.worst", 101, "a whole number from 1 to 100"),
    ],
)
def test_a_bad_value_is_named_with_what_would_do(
    key: str, value: object, what_would_do: str | None
) -> None:
    units = "a list of one or more layers, each a whole number from 1 to 65536"
    assert message(with_value(key, value)) == (
        f"params.yaml: {key} is {shown(value)}; it must be {what_would_do or units}"
    )


@pytest.mark.parametrize(
    ("key", "least", "greatest"),
    [
        ("normalize.validation", 0, 59_968),  # 32 are left, a batch
        ("train.epochs", 1, 100_000),
        ("train.batch_size", 1, 60_000),
        ("train.seed", 0, 2**32 - 1),
        ("evaluate.confidence", 0.5, 0.9999),
        ("evaluate.worst", 1, 100),
    ],
)
def test_the_bounds_themselves_serve(key: str, least: float, greatest: float) -> None:
    section, name = key.split(".")
    for value in (least, greatest):
        assert getattr(read(with_value(key, value))[section], name) == value


def test_messages_in_full() -> None:
    assert message(with_value("train.epochs", -3)) == (
        "params.yaml: train.epochs is -3; it must be a whole number from 1 to 100000"
    )
    assert message(with_value("train.epochs", "ten")) == (
        "params.yaml: train.epochs is ten; it must be a whole number from 1 to 100000"
    )
    assert message(with_value("train.epochs", "10")) == (
        "params.yaml: train.epochs is '10'; it must be a whole number from 1 to 100000"
    )
    assert message(with_value("model.hidden_units", [512, 0])) == (
        "params.yaml: model.hidden_units.1 is 0; it must be a list of one or more layers, "
        "each a whole number from 1 to 65536"
    )
    assert message(with_value("train.epoch", 3)) == (
        "params.yaml: train.epoch is not a parameter; "
        "train has epochs, batch_size, learning_rate, schedule, seed"
    )
    assert message(GOOD + "training: {}") == (
        f"params.yaml: training is not a section; the sections are {NAMES}"
    )
    assert message(GOOD.replace("epochs: 10, ", "")) == (
        "params.yaml: train.epochs is missing; it must be a whole number from 1 to 100000"
    )
    assert message("\n".join(GOOD.splitlines()[:-1])) == (
        "params.yaml: evaluate is missing; it must be a section with confidence, worst"
    )
    assert message(GOOD.replace("{dataset: mnist}", "mnist")) == (
        "params.yaml: download is mnist; it must be a section with dataset"
    )
    assert message("") == f"params.yaml: the file holds null; it must hold the sections {NAMES}"


def test_every_fault_gets_its_line() -> None:
    both = message(GOOD.replace("seed: 42", "seed: x").replace("worst: 25", "worst: 2.5"))
    assert both.splitlines() == [
        "params.yaml: train.seed is x; it must be a whole number from 0 to 4294967295",
        "params.yaml: evaluate.worst is 2.5; it must be a whole number from 1 to 100",
    ]


def test_a_batch_fits_into_what_the_validation_leaves() -> None:
    text = with_value("normalize.validation", 59_980)
    assert message(text) == "params.yaml: train.batch_size is 32; it must be " + (
        "a whole number from 1 to 20"
    )
    assert read(text.replace("batch_size: 32", "batch_size: 20"))["train"].batch_size == 20


def test_the_embedded_set_is_smaller() -> None:
    small = GOOD.replace("mnist}", "mnist-5k}")
    assert message(small.replace("validation: 0", "validation: 4000")) == (
        "params.yaml: normalize.validation is 4000; it must be a whole number from 0 to 3999"
    )
    assert message(small.replace("batch_size: 32", "batch_size: 4001")) == (
        "params.yaml: train.batch_size is 4001; it must be a whole number from 1 to 4000"
    )
    assert read(small.replace("batch_size: 32", "batch_size: 4000"))["train"].batch_size == 4000


@pytest.mark.parametrize("number", ["1e-3", "1E-3", "+1e-3", "1.0e-3", "0.1e-2", ".001", "0.001"])
def test_a_learning_rate_may_be_written_as_scientists_do(number: str) -> None:
    rate = read(GOOD.replace("0.001", number))["train"].learning_rate
    assert isinstance(rate, float)
    assert rate == 0.001


@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan", "1e400"])
def test_what_is_no_finite_number_is_refused(number: str) -> None:
    assert "it must be a finite number greater than 0" in message(GOOD.replace("0.001", number))


@pytest.mark.parametrize(
    "text",
    [
        "train: [",
        "train:\n\tepochs: 10",
        "a: b: c",
        "--- {}\n--- {}",
        "*unknown",
        "<<: 3",
        "? [1]\n: 2",
        GOOD.replace("42", "!!python/object/apply:os.getpid []"),
        # What PyYAML itself stumbles over.
        GOOD.replace("42", "2001-99-99"),
        GOOD.replace("42", "0b_"),
        GOOD.replace("42", "!!bool maybe"),
        GOOD.replace("42", "!!timestamp now"),
        GOOD.replace("42", "9" * 5_000),
        GOOD.replace("42", "[" * 3_000),
    ],
)
def test_broken_yaml_is_one_line(text: str) -> None:
    broken = message(text)
    assert broken.startswith("params.yaml is not valid YAML: ")
    assert len(broken.splitlines()) == 1


def test_bytes_that_are_no_text_are_one_line() -> None:
    PARAMETERS.write_bytes(b"train: \xff")
    with pytest.raises(BadInput, match=r"^params.yaml is not valid YAML: .*0xff"):
        read_parameters()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (GOOD.replace("epochs: 10", "epochs: 10, epochs: 20"), "epochs"),
        (GOOD + "train: {epochs: 20}", "train"),
        (GOOD.replace("worst: 25", "worst: 25, worst: 25"), "worst"),
    ],
)
def test_a_key_that_is_there_twice_is_refused(text: str, key: str) -> None:
    twice = message(text)
    assert twice.startswith(f"params.yaml is not valid YAML: {key} is there twice")
    assert len(twice.splitlines()) == 1


@pytest.mark.parametrize("value", [r'"a\nb"', "0x" + "f" * 5_000, "[" + "1, " * 1_000 + "]"])
def test_a_strange_value_is_still_one_short_line(value: str) -> None:
    strange = message(GOOD.replace("42", value))
    assert strange.startswith("params.yaml: train.seed is ")
    assert strange.endswith("; it must be a whole number from 0 to 4294967295")
    assert len(strange.splitlines()) == 1
    assert len(strange) < 250


def test_a_key_of_two_lines_is_one_line() -> None:
    assert message(GOOD + r'"a\nb": 1') == (
        f"params.yaml: a b is not a section; the sections are {NAMES}"
    )


def test_keys_of_the_same_letters_may_be_different_keys() -> None:
    # So it is not the YAML that is wrong.
    assert message(with_value("train.seed", {1: 2, "1": 2})) == (
        "params.yaml: train.seed is {1: 2, '1': 2}; it must be a whole number from 0 to 4294967295"
    )


def test_a_missing_file_is_named_with_how_to_have_it_back() -> None:
    PARAMETERS.unlink(missing_ok=True)
    with pytest.raises(BadInput, match=r"^params.yaml is missing; git restore params.yaml "):
        read_parameters()


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_characters="eE"), max_size=9)  # 1e5 is dumped as text
    | st.dates()
    | st.binary(max_size=5)
)
keys_of_maps = scalars.filter(lambda key: key == key)  # of .nan a map can have two
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys_of_maps, inner, max_size=3),
    max_leaves=6,
)


def good_or_explained(text: str) -> None:
    try:
        parameters = read(text)
    except BadInput as problem:
        for line in str(problem).splitlines():
            assert line.startswith("params.yaml")
    else:
        assert set(parameters) == set(SECTIONS)


@given(values)
def test_any_document_is_good_or_explained(document: Any) -> None:
    good_or_explained(yaml.safe_dump(document, allow_unicode=True))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_is_good_or_explained(text: str) -> None:
    good_or_explained(text)


@given(
    st.integers(0, len(GOOD)), st.integers(0, 4), st.sampled_from("{}[]:,-&*!|>'\"%@`#~\n\t 1_x")
)
def test_any_slip_of_the_pen_is_good_or_explained(place: int, cut: int, typed: str) -> None:
    good_or_explained(GOOD[:place] + typed + GOOD[place + cut :])


keys = [f"{section}.{key}" for section, part in yaml.safe_load(GOOD).items() for key in part]


@given(st.sampled_from(keys), values)
def test_any_value_is_taken_as_it_is_or_refused_by_name(key: str, value: Any) -> None:
    section, name = key.split(".")
    try:
        parameters = read(with_value(key, value))
    except BadInput as problem:
        refused = str(problem)
    else:
        assert getattr(parameters[section], name) == value
        assert not isinstance(value, bool)
        return
    assert refused.startswith((f"params.yaml: {key}", "params.yaml: train.batch_size"))


BOMB = "a: &a [1, 1]\n" + "".join(
    f"a{n + 1}: &a{n + 1} [*a{n or ''}, *a{n or ''}]\n" for n in range(40)
)
BOMB_OF_MERGES = "a: &a {x: 1}\n" + "".join(
    f"a{n + 1}: &a{n + 1} {{<<: [*a{n or ''}, *a{n or ''}]}}\n" for n in range(40)
)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (GOOD + BOMB, 1),
        (GOOD + BOMB_OF_MERGES, 1),
        (GOOD + "".join(f"key{number}: 1\n" for number in range(30_000)), 1),
        (GOOD + "".join(f"k{number}: 1\n" for number in range(4_000)), 21),
        (with_value("model.hidden_units", []).replace("[]", f"[{'1, ' * 3_000_000}]"), 1),
        (with_value("model.hidden_units", []).replace("[]", f"[{'a, ' * 9_000}]"), 21),
        ("[" * 49_000, 1),
    ],
    ids=["aliases", "merges", "30,000 keys", "4,000 keys", "3 million items", "items", "nested"],
)
def test_a_bomb_is_told_in_a_few_lines_within_seconds(text: str, lines: int) -> None:
    started = time.process_time()
    assert len(message(text).splitlines()) == lines
    assert time.process_time() - started < 10
