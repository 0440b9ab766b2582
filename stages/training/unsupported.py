"""What the compiled epoch cannot train, refused in a line that names the layer."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from stages.edges.bad_input import BadInput
from stages.training.repeatable import keras, tf

# TensorFlow's own random numbers, which go on from a state that nobody can save.
UNSEEDED = {"Multinomial", "ParameterizedTruncatedNormal", "TruncatedNormal"}
COMPILES = "cannot be compiled by XLA, as here a whole epoch is one program"


def refuse_unsupported(network: Any) -> None:
    """Looks for what would be trained in another way than Keras does, or differently each time.

    Raises:
        BadInput: the message names the layer.
    """
    name_the_layer(network, what_is_unsupported)


@contextmanager
def explaining_compilation(network: Any) -> Iterator[None]:
    """Where XLA finds only while it compiles that it cannot, says so in a line.

    Raises:
        BadInput: the message names the layer.
    """
    try:
        yield
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as problem:
        if "compil" not in str(problem):
            raise
        name_the_layer(network, what_fails_to_compile)
        raise BadInput(f"The network {COMPILES}: {problem.message}") from None


def name_the_layer(network: Any, what: Callable[[Any], str]) -> None:
    """Raises BadInput if there is something to say of the network, with the layer it is about."""
    said = what(network)
    if not said:
        return
    for layer in network.layers:
        try:
            alone = keras.Model(layer.input, layer.output)
        except (AttributeError, ValueError):  # it has several places in the network
            continue
        if not isinstance(layer, keras.layers.InputLayer) and (of_it := what(alone)):
            raise BadInput(f"The layer {layer.name} {of_it}")
    raise BadInput(f"The network {said}")


def what_is_unsupported(network: Any) -> str:
    if not all(layer.supports_jit for layer in network.layers):
        return COMPILES
    program = training_call(network).get_concrete_function(*specimens(network))
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
                f"draws random numbers that no seed decides ({operation}); it must draw them by "
                "keras.random from a keras.random.SeedGenerator of the layer"
            )
    return ""


def what_fails_to_compile(network: Any) -> str:
    inputs = [tf.zeros(specimen.shape, specimen.dtype) for specimen in specimens(network)]
    try:
        training_call(network, jit_compile=True)(*inputs)
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
        return COMPILES
    return ""


def training_call(network: Any, **options: Any) -> Any:
    def call(*inputs: Any) -> Any:
        return network(inputs[0] if len(inputs) == 1 else list(inputs), training=True)

    return tf.function(call, **options)


def specimens(network: Any) -> list[Any]:
    """What the network takes for a single image: a tf.TensorSpec for each input."""
    return [tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype) for tensor in network.inputs]


def operations(program: Any) -> Iterable[str]:
    """The types of a tf.function's operations, those in loops and branches too."""
    graph = program.graph.as_graph_def()
    yield from (node.op for node in graph.node)
    for function in graph.library.function:
        yield from (node.op for node in function.node_def)
