"""Checks of a network before it is trained or used; each error names the layer."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from stages.common.errors import UserError
from stages.training.tensorflow_setup import keras, tf

# Operations that use TensorFlow's global random generator, whose state is in no checkpoint.
UNSEEDED = {"Multinomial", "ParameterizedTruncatedNormal", "TruncatedNormal"}
# Layers that do what the section augmentation of params.yaml does.
DISTORTIONS = (
    *(keras.layers.RandomRotation, keras.layers.RandomTranslation, keras.layers.RandomZoom),
    *(keras.layers.RandomShear, keras.layers.RandomElasticTransform),
)
NOT_COMPILABLE = (
    "cannot be compiled by XLA; expected layers that work with jit_compile=True, "
    "see docs/develop.md"
)


def check_network(network: Any, name: str, image_shape: tuple[int, ...], classes: int) -> None:
    """Checks that a network maps images, (n, *image_shape), to probabilities, (n, classes).

    Raises:
        UserError: the network has other inputs or outputs, or its weights are not finite.
    """
    inputs, outputs = getattr(network, "inputs", None), getattr(network, "outputs", None)
    is_subclass = not type(network).__module__.startswith("keras.")
    if not inputs or not outputs or is_subclass:
        raise UserError(f"{name} is a {type(network).__name__}; expected Sequential or functional")
    for layer in network.layers:
        if "bfloat16" in (layer.compute_dtype, layer.variable_dtype):
            raise UserError(
                f"The layer {layer.name} has the type bfloat16, which TensorFlow cannot compute "
                "with AVX2; expected float32 or mixed_float16"
            )
    for tensors, shape, what in (
        (inputs, (None, *image_shape), "inputs"),
        (outputs, (None, classes), "outputs"),
    ):
        if [tensor.shape for tensor in tensors] != [shape]:
            found = ", ".join(f"{tensor.name} {tensor.shape}" for tensor in tensors)
            raise UserError(f"{name} has the {what} {found}; expected one of shape {shape}")
    for weights in network.weights:
        if not np.isfinite(weights.numpy()).all():
            raise UserError(f"{name} has weights that are not finite numbers: {weights.path}")
    image = np.linspace(0, 1, math.prod(image_shape), dtype=np.float32).reshape(1, *image_shape)
    (probabilities,) = np.asarray(network(image, training=False), np.float64)  # (classes,)
    # The tolerance allows for float16.
    if not (probabilities >= 0).all() or abs(probabilities.sum() - 1) > 1e-2:
        raise UserError(
            f"{name} ends in the layer {network.layers[-1].name}, which gives no probabilities; "
            'expected activation="softmax"'
        )


def check_trainable(network: Any) -> None:
    """Checks that a compiled epoch trains the network as Keras does, and reproducibly.

    Raises:
        UserError: a layer cannot be compiled, or uses random numbers or variables that a checkpoint
            cannot save.
    """
    raise_for_layer(network, check_program)


@contextmanager
def compilation_errors(network: Any) -> Iterator[None]:
    """Turns XLA's errors during compilation into a UserError that names the layer."""
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as problem:
        if "compil" not in str(problem):
            raise
        raise_for_layer(network, check_compilable)
        raise UserError(
            f"The network, its loss or a metric {NOT_COMPILABLE}: {problem.message}"
        ) from None


class NetworkProblem(Exception):
    """A problem of a network; the message is the end of "The layer …"."""


def raise_for_layer(network: Any, check: Callable[[Any], None]) -> None:
    """Raises UserError if a network has a problem, naming the layer that has it on its own.

    Args:
        network: a keras.Model.
        check: raises NetworkProblem for a keras.Model that has the problem.
    """
    try:
        check(network)
    except NetworkProblem as problem:
        for layer in network.layers:
            try:
                alone = keras.Model(layer.input, layer.output)
            except (AttributeError, ValueError):  # the network uses the layer several times
                continue
            if isinstance(layer, keras.layers.InputLayer):
                continue
            try:
                check(alone)
            except NetworkProblem as problem_of_layer:
                raise UserError(f"The layer {layer.name} {problem_of_layer}") from None
        raise UserError(f"The network {problem}") from None


def check_program(network: Any) -> None:
    if not all(layer.supports_jit for layer in network.layers):
        is_distortion = any(isinstance(layer, DISTORTIONS) for layer in network.layers)
        raise NetworkProblem(
            f"{NOT_COMPILABLE}; the section augmentation of params.yaml also distorts images"
            if is_distortion
            else NOT_COMPILABLE
        )
    program = training_call(network).get_concrete_function(*input_specs(network))
    check_reproducible(program, network.variables)


def check_reproducible(program: Any, variables: Iterable[Any]) -> None:
    """Checks that a program has no other state than these variables.

    Args:
        program: a concrete tf.function.
        variables: Keras's variables, which a checkpoint saves, or which are set to their initial
            values in each epoch.

    Raises:
        NetworkProblem: it uses another variable, or TensorFlow's global random generator.
    """
    known = {id(variable.value) for variable in variables}
    for variable in program.variables:
        if id(variable) not in known:
            raise NetworkProblem(
                f"uses a variable that is not the network's, {variable.name}; it must be made by "
                "add_weight, or in a keras.random.SeedGenerator of a layer, to be saved"
            )
    for operation in operations(program):
        if operation in UNSEEDED or operation.startswith("Random"):
            raise NetworkProblem(
                f"draws random numbers without a seed ({operation}); use keras.random with a "
                "keras.random.SeedGenerator of a layer"
            )


def check_compilable(network: Any) -> None:
    inputs = [tf.zeros(spec.shape, spec.dtype) for spec in input_specs(network)]
    try:
        training_call(network, jit_compile=True)(*inputs)
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
        raise NetworkProblem(NOT_COMPILABLE) from None


def training_call(network: Any, **options: Any) -> Any:
    """A tf.function that calls the network with training=True."""

    def call(*inputs: Any) -> Any:
        return network(inputs[0] if len(inputs) == 1 else list(inputs), training=True)

    return tf.function(call, **options)


def input_specs(network: Any) -> list[Any]:
    """A tf.TensorSpec for each input, with batch size 1."""
    return [tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype) for tensor in network.inputs]


def operations(program: Any) -> Iterable[str]:
    """The types of all operations of a tf.function, including those in loops and branches."""
    graph = program.graph.as_graph_def()
    yield from (node.op for node in graph.node)
    for function in graph.library.function:
        yield from (node.op for node in function.node_def)
