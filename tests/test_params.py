"""params.yaml: valid values, messages for invalid ones, and the same YAML as DVC's."""

import math
import re
import time
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from experiments.check_params import SCHEMAS, read_params
from stages.common.errors import UserError
from stages.common.params import (
    INVALID_CONTENT,
    MAX_CHARACTERS,
    PARAMS,
    as_yaml,
    parse_yaml,
    read_section,
    read_yaml,
)
from stages.data.datasets import DATASETS
from tests.project import ROOT

VALID = """
download: {dataset: mnist}
normalize: {scaling: unit, validation: 0}
model: {hidden_units: [512, 256, 128]}
train: {epochs: 10, batch_size: 32, learning_rate: 0.001, schedule: constant, seed: 42}
augmentation:
  {rotation: 0, scale: 0, shear: 0, shift: 0, elastic_amplitude: 0, elastic_smoothness: 5}
evaluate: {confidence: 0.95, worst: 25}
"""
NAMES = "download, normalize, model, train, augmentation, evaluate"


def read(text: str) -> dict[str, Any]:
    """Reads a text as params.yaml of the working directory."""
    PARAMS.write_text(text, encoding="utf-8")
    return read_params()


def changed(changes: dict[str, object]) -> str:
    """VALID with other values for some parameters, such as train.seed."""
    document = parse_yaml(VALID)
    for key, value in changes.items():
        section, name = key.split(".")
        document[section][name] = value
    return dump(document)


def dump(document: object) -> str:
    stream = StringIO()
    YAML(typ="safe").dump(document, stream)
    return stream.getvalue()


def message(text: str) -> str:
    with pytest.raises(UserError) as problem:
        read(text)
    return str(problem.value)


@pytest.fixture(autouse=True, scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A working directory for all tests: Hypothesis runs its examples in one test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("params"))
        yield


def test_the_projects_params_yaml_is_valid() -> None:
    assert list(read((ROOT / PARAMS).read_text())) == NAMES.split(", ")


def integers(low: int, high: int) -> str:
    return f"an integer from {low} to {high}"


FINITE = "a finite number greater than 0"
UNITS = (
    "a list of 1 to 100 layer sizes, each an integer from 1 to 65536, with at most 100,000,000 "
    "weights between the layers"
)


@pytest.mark.parametrize(
    ("key", "values", "expected"),
    [
        ("download.dataset", ["cifar", None, ["mnist"]], f"one of {', '.join(DATASETS)}"),
        ("normalize.scaling", [True, "Unit"], "unit or standard"),
        (
            "normalize.validation",
            [-1, 0.1],
            "an integer from 0, less than the number of training images",
        ),
        ("normalize.validation", [60_000], integers(0, 59_999)),
        (
            "model.hidden_units",
            [[], None, 512, "512", {"0": 512}, [1] * 101, [8] * 10_000, [65_536, 65_536]],
            UNITS,
        ),
        (
            "train.epochs",
            [-3, 0, 100_001, "ten", "10", True, 10.5, 10.0, None],
            integers(1, 100_000),
        ),
        ("train.batch_size", [0], "an integer from 1 to the number of training images"),
        ("train.batch_size", [60_001], integers(1, 60_000)),
        ("train.learning_rate", [0, -0.001, math.inf, -math.inf, math.nan, "fast", True], FINITE),
        ("train.schedule", ["cosinus"], "constant or cosine"),
        # In the mapping, 1 and '1' are different keys.
        ("train.seed", [-1, 2**32, {1: 2, "1": 2}], integers(0, 2**32 - 1)),
        ("augmentation.rotation", [91], "a number from 0 to 90: degrees, both directions"),
        ("augmentation.shift", [math.nan, "1"], "a number from 0 to 14: pixels, all directions"),
        ("evaluate.confidence", [0.49, 1, math.nan], "a number from 0.5 to 0.9999"),
        ("evaluate.worst", [0, 101], integers(1, 100)),
    ],
)
def test_the_message_names_the_value_and_what_is_expected(
    key: str, values: list[object], expected: str
) -> None:
    for value in values:
        assert message(changed({key: value})) == (
            f"params.yaml: {key} is {as_yaml(value)}; expected {expected}"
        )


@pytest.mark.parametrize(
    ("key", "low", "high", "others"),
    [
        ("normalize.validation", 0, 59_968, {}),  # one batch of 32 images remains
        ("train.epochs", 1, 100_000, {}),
        ("train.batch_size", 1, 60_000, {}),
        ("train.batch_size", 1, 20, {"normalize.validation": 59_980}),
        ("train.batch_size", 1, 4_000, {"download.dataset": "mnist-5k"}),
        ("train.seed", 0, 2**32 - 1, {}),
        ("evaluate.confidence", 0.5, 0.9999, {}),
        ("evaluate.worst", 1, 100, {}),
        ("model.hidden_units", [1] * 100, [10_000, 10_000], {}),
    ],
)
def test_bounds_are_valid(key: str, low: object, high: object, others: dict[str, object]) -> None:
    section, name = key.split(".")
    for value in (low, high):
        assert getattr(read(changed({key: value, **others}))[section], name) == value


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (changed({"train.epochs": "ten"}), f"train.epochs is ten; expected {integers(1, 100_000)}"),
        (changed({"train.epochs": "10"}), f"train.epochs is '10'; expected {integers(1, 100_000)}"),
        (
            changed({"model.hidden_units": [512, 0]}),
            f"model.hidden_units.1 is 0; expected {UNITS}",
        ),
        (
            changed({"train.epoch": 3}),
            "train.epoch is not a parameter; "
            "train has epochs, batch_size, learning_rate, schedule, seed",
        ),
        (VALID + "training: {}", f"training is not a section; expected {NAMES}"),
        (VALID + r'"a\nb": 1', f"a b is not a section; expected {NAMES}"),
        (
            VALID.replace("epochs: 10, ", ""),
            f"train.epochs is missing; expected {integers(1, 100_000)}",
        ),
        (
            VALID[: VALID.index("evaluate")],
            "evaluate is missing; expected a section with confidence, worst",
        ),
        (
            VALID.replace("{dataset: mnist}", "mnist"),
            "download is mnist; expected a section with dataset",
        ),
        (VALID.replace("0.001", "1e400"), f"train.learning_rate is .inf; expected {FINITE}"),
        ("", f"the file contains null; expected the sections {NAMES}"),
        (
            VALID.replace("augmentation", "warp"),
            "the section warp is now named augmentation; rename it",
        ),
        (VALID + "warp: {}", "the section warp is now named augmentation; rename it"),
        (
            changed({"train.seed": "x", "evaluate.worst": 2.5}),
            f"train.seed is x; expected {integers(0, 2**32 - 1)}\n"
            f"params.yaml: evaluate.worst is 2.5; expected {integers(1, 100)}",
        ),
        # The bounds depend on the data set and on the number of validation images.
        (
            changed({"normalize.validation": 59_980}),
            f"train.batch_size is 32; expected {integers(1, 20)}",
        ),
        (
            changed({"download.dataset": "mnist-5k", "normalize.validation": 4_000}),
            f"normalize.validation is 4000; expected {integers(0, 3_999)}",
        ),
        (
            changed({"download.dataset": "mnist-5k", "train.batch_size": 4_001}),
            f"train.batch_size is 4001; expected {integers(1, 4_000)}",
        ),
    ],
)
def test_the_message_has_a_line_for_each_error(text: str, lines: str) -> None:
    assert message(text) == f"params.yaml: {lines}"


@pytest.mark.parametrize("number", ["1e-3", "1E-3", "+1e-3", "1.0e-3", "0.1e-2", ".001", "0.001"])
def test_a_learning_rate_may_be_in_scientific_notation(number: str) -> None:
    rate = read(VALID.replace("0.001", number))["train"].learning_rate
    assert isinstance(rate, float)
    assert rate == 0.001


@pytest.mark.parametrize(
    "text",
    [
        "train: [",
        "train:\n\tepochs: 10",
        "a: b: c",
        "--- {}\n--- {}",
        "a: 1\na: 2",
        "*unknown",
        "<<: 3",
        VALID.replace("42", "!!python/object/apply:os.getpid []"),
        # ruamel.yaml raises other exceptions than YAMLError for these.
        VALID.replace("42", "2001-99-99"),
        VALID.replace("42", "0b_"),
        VALID.replace("42", "!!bool maybe"),
        VALID.replace("42", "!!timestamp now"),
        VALID.replace("42", "9" * 5_000),
        VALID.replace("42", "[" * 3_000),
    ],
)
def test_invalid_yaml_gives_one_line(text: str) -> None:
    assert re.fullmatch("params.yaml is not valid YAML: .*", message(text))


def test_bytes_that_are_not_utf_8_give_one_line() -> None:
    PARAMS.write_bytes(b"train: \xff")
    with pytest.raises(UserError, match=r"^params.yaml is not valid YAML: .*0xff"):
        read_params()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (VALID.replace("epochs: 10", "epochs: 10, epochs: 20"), "epochs"),
        (VALID + "train: {epochs: 20}", "train"),
        (VALID.replace("worst: 25", "worst: 25, worst: 25"), "worst"),
    ],
)
def test_a_duplicate_key_is_refused(text: str, key: str) -> None:
    assert re.fullmatch(
        f'params.yaml is not valid YAML: .*found duplicate key "{key}".*', message(text)
    )


def test_aliases_are_allowed() -> None:
    text = VALID.replace("scale: 0,", "scale: &none 0,").replace("shear: 0,", "shear: *none,")
    assert read(text)["augmentation"].shear == 0


@pytest.mark.parametrize("value", [r'"a\nb"', "0x" + "f" * 5_000, "[" + "1, " * 1_000 + "]"])
def test_a_long_value_is_shortened(value: str) -> None:
    line = message(VALID.replace("42", value))
    assert re.fullmatch(
        "params.yaml: train.seed is .*; expected an integer from 0 to 4294967295", line
    )
    assert len(line) < 250


def test_a_missing_file_gives_a_command_that_restores_it() -> None:
    PARAMS.unlink(missing_ok=True)
    with pytest.raises(UserError, match=r"^params.yaml is missing. Run: git restore params.yaml "):
        read_params()


def is_value(text: str) -> bool:
    try:
        parse_yaml(f"key: {text}")
    except INVALID_CONTENT:
        return False
    return True


SCALARS = st.from_regex(r"[-+.0-9:_a-fxonyesNOTrul~]{1,8}", fullmatch=True).filter(is_value)


@given(st.lists(SCALARS, min_size=1, max_size=30))
@example(["010", "1:30", "yes", "1_000", "1e3", ".5", "0x1F", "0o17", "2001-01-01", "~", "True"])
@settings(max_examples=10)
def test_values_are_those_of_dvc(texts: list[str]) -> None:
    import dvc.api

    Path(".dvc").mkdir(exist_ok=True)
    Path(".dvc/config").write_text("[core]\nno_scm = true\n")
    PARAMS.write_text("".join(f"key{n}: {text}\n" for n, text in enumerate(texts)))
    assert repr(read_yaml(PARAMS)) == repr(dvc.api.params_show(str(PARAMS)))  # nan != nan


TEXTS = st.recursive(
    SCALARS
    | st.sampled_from(["010", "1:30", "yes", "on", "0o10", "1_000", "1e3", "'1'", "!!int 1"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(inner, max_size=2).map(
            lambda items: "{" + ", ".join(f"k{n}: {item}" for n, item in enumerate(items)) + "}"
        )
        | inner.map(lambda item: f"[&anchor {item}, *anchor]")
    ),
    max_leaves=4,
)


@given(
    st.sampled_from(
        [
            *("train.seed", "train.epochs", "train.learning_rate", "train.schedule"),
            *("model.hidden_units", "evaluate.worst"),
        ]
    ),
    TEXTS,
)
@example("train.seed", "010")
@example("train.seed", "1_000")
@example("train.epochs", "0o10")
@example("train.learning_rate", "1:30")
@example("model.hidden_units", "[&a 010, *a]")
@settings(max_examples=40)
def test_the_value_that_is_used_is_the_one_that_dvc_records(key: str, text: str) -> None:
    import dvc.api

    Path(".dvc").mkdir(exist_ok=True)
    Path(".dvc/config").write_text("[core]\nno_scm = true\n")
    section, name = key.split(".")
    PARAMS.write_text(re.sub(rf"\b{name}: (\[.*\]|[^,}}]+)", lambda _: f"{name}: {text}", VALID))
    try:
        used = getattr(read_section(SCHEMAS[section]), name)
    except UserError as problem:
        line = str(problem)
    else:
        recorded = dvc.api.params_show(str(PARAMS))[section][name]
        assert used == recorded
        assert type(used) is type(recorded) or (type(used), type(recorded)) == (float, int)
        return
    assert line.startswith("params.yaml")


def test_values_follow_yaml_1_2() -> None:
    assert parse_yaml("[010, 1_000, yes]\n") == [10, 1000, "yes"]
    assert parse_yaml("1:30") == "1:30"


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
    | st.dates()
    | st.binary(max_size=5)
)
mapping_keys = scalars.filter(lambda key: key == key)  # a mapping may have several keys .nan
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(mapping_keys, inner, max_size=3),
    max_leaves=6,
)


@given(values.map(dump) | st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_is_valid_or_gives_a_user_error(text: str) -> None:
    try:
        sections = read(text)
    except UserError as problem:
        lines = str(problem).splitlines()
    else:
        assert set(sections) == set(SCHEMAS)
        return
    assert all(line.startswith("params.yaml") for line in lines)


keys = [f"{section}.{key}" for section, part in parse_yaml(VALID).items() for key in part]


@given(st.sampled_from(keys), values)
def test_any_value_is_kept_or_refused_with_its_name(key: str, value: Any) -> None:
    section, name = key.split(".")
    try:
        sections = read(changed({key: value}))
    except UserError as problem:
        line = str(problem)
    else:
        assert getattr(sections[section], name) == value
        assert not isinstance(value, bool)
        return
    assert line.startswith((f"params.yaml: {key}", "params.yaml: train.batch_size"))


# Each list contains the one before twice: 2**40 items.
BOMB = "a: &a [1, 1]\n" + "".join(
    f"a{n + 1}: &a{n + 1} [*a{n or ''}, *a{n or ''}]\n" for n in range(40)
)
# Each mapping has the keys of the one before twice.
MERGES = "m: &m {x: 1, y: 2}\n" + "".join(
    f"m{n + 1}: &m{n + 1} {{<<: [*m{n or ''}, *m{n or ''}]}}\n" for n in range(40)
)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (VALID + BOMB, 21),
        (BOMB + VALID.replace("42", "*a40"), 21),
        (VALID + "#" * MAX_CHARACTERS, 1),
        (VALID + "".join(f"k{number}: 1\n" for number in range(20_000)), 21),
        (VALID.replace("[512, 256, 128]", f"[{'a, ' * 50_000}]"), 1),
        ("[" * 900_000, 1),
        ("[" * 400_000 + "]" * 400_000, 1),
        ("- " * 400_000, 1),
        (VALID + MERGES, 1),
    ],
    ids=[
        *("aliases", "alias", "too long", "keys", "items", "unclosed", "nested", "nested blocks"),
        "merges",
    ],
)
def test_a_huge_document_gives_a_few_lines_within_seconds(text: str, lines: int) -> None:
    started = time.process_time()
    assert len(message(text).splitlines()) == lines
    assert time.process_time() - started < 10
