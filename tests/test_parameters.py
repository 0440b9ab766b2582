import math
import time
from functools import partial
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


def changed(changes: dict[str, object]) -> str:
    """GOOD with other values for some keys, each section.name."""
    document = yaml.safe_load(GOOD)
    for key, value in changes.items():
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


def whole(low: int, high: int) -> str:
    return f"a whole number from {low} to {high}"


FINITE = "a finite number greater than 0"
UNITS = "a list of one or more layers, each a whole number from 1 to 65536"


@pytest.mark.parametrize(
    ("key", "values", "what_would_do"),
    [
        ("download.dataset", ["cifar", None, ["mnist"]], f"one of {', '.join(DATASETS)}"),
        ("normalize.scaling", [True, "Unit"], "unit or standard"),
        ("normalize.validation", [-1, 0.1], "a whole number from 0, below the training images"),
        ("normalize.validation", [60_000], whole(0, 59_999)),
        ("model.hidden_units", [[], None, 512, "512", {"0": 512}], UNITS),
        ("train.epochs", [-3, 0, 100_001, "ten", "10", True, 10.5, 10.0, None], whole(1, 100_000)),
        ("train.batch_size", [0], "a whole number from 1 to the training images"),
        ("train.batch_size", [60_001], whole(1, 60_000)),
        ("train.learning_rate", [0, -0.001, math.inf, -math.inf, math.nan, "fast", True], FINITE),
        ("train.schedule", ["cosinus"], "constant or cosine"),
        # A map with two keys, though of the same letters: so it is not the YAML that is wrong.
        ("train.seed", [-1, 2**32, {1: 2, "1": 2}], whole(0, 2**32 - 1)),
        ("warp.rotation", [91], "a number from 0 to 90: degrees, either way"),
        ("warp.shift", [math.nan, "1"], "a number from 0 to 14: pixels, in each direction"),
        ("evaluate.confidence", [0.49, 1, math.nan], "a number from 0.5 to 0.9999"),
        ("evaluate.worst", [0, 101], whole(1, 100)),
    ],
)
def test_a_bad_value_is_named_with_what_would_do(
    key: str, values: list[object], what_would_do: str
) -> None:
    for value in values:
        assert message(changed({key: value})) == (
            f"params.yaml: {key} is {shown(value)}; it must be {what_would_do}"
        )


@pytest.mark.parametrize(
    ("key", "least", "greatest", "others"),
    [
        ("normalize.validation", 0, 59_968, {}),  # 32 are left, a batch
        ("train.epochs", 1, 100_000, {}),
        ("train.batch_size", 1, 60_000, {}),
        ("train.batch_size", 1, 20, {"normalize.validation": 59_980}),
        ("train.batch_size", 1, 4_000, {"download.dataset": "mnist-5k"}),
        ("train.seed", 0, 2**32 - 1, {}),
        ("evaluate.confidence", 0.5, 0.9999, {}),
        ("evaluate.worst", 1, 100, {}),
    ],
)
def test_the_bounds_themselves_serve(
    key: str, least: float, greatest: float, others: dict[str, object]
) -> None:
    section, name = key.split(".")
    for value in (least, greatest):
        assert getattr(read(changed({key: value, **others}))[section], name) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (changed({"train.epochs": "ten"}), f"train.epochs is ten; it must be {whole(1, 100_000)}"),
        (changed({"train.epochs": "10"}), f"train.epochs is '10'; it must be {whole(1, 100_000)}"),
        (
            changed({"model.hidden_units": [512, 0]}),
            f"model.hidden_units.1 is 0; it must be {UNITS}",
        ),
        (
            changed({"train.epoch": 3}),
            "train.epoch is not a parameter; "
            "train has epochs, batch_size, learning_rate, schedule, seed",
        ),
        (GOOD + "training: {}", f"training is not a section; the sections are {NAMES}"),
        (GOOD + r'"a\nb": 1', f"a b is not a section; the sections are {NAMES}"),
        (
            GOOD.replace("epochs: 10, ", ""),
            f"train.epochs is missing; it must be {whole(1, 100_000)}",
        ),
        (
            GOOD[: GOOD.index("evaluate")],
            "evaluate is missing; it must be a section with confidence, worst",
        ),
        (
            GOOD.replace("{dataset: mnist}", "mnist"),
            "download is mnist; it must be a section with dataset",
        ),
        (GOOD.replace("0.001", "1e400"), f"train.learning_rate is .inf; it must be {FINITE}"),
        ("", f"the file holds null; it must hold the sections {NAMES}"),
        (
            changed({"train.seed": "x", "evaluate.worst": 2.5}),
            f"train.seed is x; it must be {whole(0, 2**32 - 1)}\n"
            f"params.yaml: evaluate.worst is 2.5; it must be {whole(1, 100)}",
        ),
        # A batch fits into what the validation leaves, and the embedded set is smaller.
        (
            changed({"normalize.validation": 59_980}),
            f"train.batch_size is 32; it must be {whole(1, 20)}",
        ),
        (
            changed({"download.dataset": "mnist-5k", "normalize.validation": 4_000}),
            f"normalize.validation is 4000; it must be {whole(0, 3_999)}",
        ),
        (
            changed({"download.dataset": "mnist-5k", "train.batch_size": 4_001}),
            f"train.batch_size is 4001; it must be {whole(1, 4_000)}",
        ),
    ],
)
def test_messages_in_full(text: str, said: str) -> None:
    assert message(text) == f"params.yaml: {said}"


@pytest.mark.parametrize("number", ["1e-3", "1E-3", "+1e-3", "1.0e-3", "0.1e-2", ".001", "0.001"])
def test_a_learning_rate_may_be_written_as_scientists_do(number: str) -> None:
    rate = read(GOOD.replace("0.001", number))["train"].learning_rate
    assert isinstance(rate, float)
    assert rate == 0.001


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


@given(
    values.map(partial(yaml.safe_dump, allow_unicode=True))
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
)
def test_any_document_and_any_text_is_good_or_explained(text: str) -> None:
    try:
        parameters = read(text)
    except BadInput as problem:
        refusal = str(problem)
    else:
        assert set(parameters) == set(SECTIONS)
        return
    assert all(line.startswith("params.yaml") for line in refusal.splitlines())


keys = [f"{section}.{key}" for section, part in yaml.safe_load(GOOD).items() for key in part]


@given(st.sampled_from(keys), values)
def test_any_value_is_taken_as_it_is_or_refused_by_name(key: str, value: Any) -> None:
    section, name = key.split(".")
    try:
        parameters = read(changed({key: value}))
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
        (changed({"model.hidden_units": []}).replace("[]", f"[{'1, ' * 3_000_000}]"), 1),
        (changed({"model.hidden_units": []}).replace("[]", f"[{'a, ' * 9_000}]"), 21),
        ("[" * 49_000, 1),
    ],
    ids=["aliases", "merges", "30,000 keys", "4,000 keys", "3 million items", "items", "nested"],
)
def test_a_bomb_is_told_in_a_few_lines_within_seconds(text: str, lines: int) -> None:
    started = time.process_time()
    assert len(message(text).splitlines()) == lines
    assert time.process_time() - started < 10
