"""Checks of a network before it is trained or used; each error names the layer."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from stages.common.errors import UserError
from stages.training.tensorflow_setup import keras, tf

# Operations that draw from TensorFlow's global random state, which a checkpoint cannot save.
UNSEEDED = {"Multinomial", "ParameterizedTruncatedNormal", "TruncatedNormal"}
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
    if not inputs or not outputs:
        raise UserError(f"{name} is a {type(network).__name__}; expected Sequential or functional")
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


def check_savable(layer: Any) -> None:
    """Checks that a layer can be loaded from a saved network.

    Raises:
        UserError: its class is not registered with Keras, or its configuration does not rebuild it.
    """
    kind = type(layer)
    is_custom = not kind.__module__.startswith("keras.")
    name = keras.saving.get_registered_name(kind)
    if is_custom and keras.saving.get_registered_object(name) is not kind:
        raise UserError(
            f"The layer {layer.name} could not be loaded again: its class {kind.__name__} needs "
            "@keras.saving.register_keras_serializable() above it"
        )
    try:
        kind.from_config(layer.get_config())
    except Exception as problem:  # a user's class may raise anything
        reason = " ".join(str(problem).split())
        raise UserError(
            f"The layer {layer.name} could not be loaded again: {reason:.300}"
        ) from None


def check_trainable(network: Any) -> None:
    """Checks that a compiled epoch trains the network as Keras does, and repeatably.

    Raises:
        UserError: a layer cannot be compiled, or uses random numbers or variables that a checkpoint
            cannot save.
    """
    raise_for_layer(network, unsupported)


@contextmanager
def compilation_errors(network: Any) -> Iterator[None]:
    """Turns XLA's errors during compilation into a UserError that names the layer."""
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as problem:
        if "compil" not in str(problem):
            raise
        raise_for_layer(network, compilation_failure)
        raise UserError(f"The network {NOT_COMPILABLE}: {problem.message}") from None


def raise_for_layer(network: Any, find_problem: Callable[[Any], str]) -> None:
    """Raises UserError if a network has a problem, naming the layer that has it on its own.

    Args:
        network: a keras.Model.
        find_problem: returns a description of a model's problem, or an empty text.
    """
    problem = find_problem(network)
    if not problem:
        return
    for layer in network.layers:
        try:
            alone = keras.Model(layer.input, layer.output)
        except (AttributeError, ValueError):  # the network uses the layer several times
            continue
        is_input = isinstance(layer, keras.layers.InputLayer)
        if not is_input and (problem_of_layer := find_problem(alone)):
            raise UserError(f"The layer {layer.name} {problem_of_layer}")
    raise UserError(f"The network {problem}")


def unsupported(network: Any) -> str:
    if not all(layer.supports_jit for layer in network.layers):
        return NOT_COMPILABLE
    program = training_call(network).get_concrete_function(*input_specs(network))
    known = {id(variable.value) for variable in network.variables}
    for variable in program.variables:
        if id(variable) not in known:
            return (
                f"uses a variable that is not the network's, {variable.name}; it must be made by "
                "add_weight, or in a keras.random.SeedGenerator of the layer, to be saved"
            )
    for operation in operations(program):
        if operation in UNSEEDED or operation.startswith("Random"):
            return (
                f"draws random numbers without a seed ({operation}); use keras.random with a "
                "keras.random.SeedGenerator of the layer"
            )
    return ""


def compilation_failure(network: Any) -> str:
    inputs = [tf.zeros(spec.shape, spec.dtype) for spec in input_specs(network)]
    try:
        training_call(network, jit_compile=True)(*inputs)
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
        return NOT_COMPILABLE
    return ""


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
