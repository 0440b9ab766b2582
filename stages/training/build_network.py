"""Construction of the network with seeded initial weights, and its compilation."""

from collections.abc import Sequence
from typing import Any

from stages.training.definition_checks import check_list, check_optimizer, resolve_loss
from stages.training.model_file import check_savable
from stages.training.network import architecture
from stages.training.network_checks import check_network, check_trainable
from stages.training.tensorflow_setup import keras


def build_network(
    hidden_units: Sequence[int], seed: int, image_shape: tuple[int, ...], classes: int
) -> Any:
    """Builds the untrained network.

    Args:
        hidden_units: units of each hidden layer, first to last.
        seed: from 0 to 2**32 - 1; determines the initial weights and all random layers.
        image_shape: (h, w) or (h, w, channels).
        classes: number of classes.

    Returns:
        A keras.Model, float32 (n, *image_shape) -> (n, classes).

    Raises:
        UserError: the network has other inputs or outputs, gives no probabilities, or has a layer
            that cannot be trained as Keras does, and reproducibly.
    """
    # Keras derives the seed of each initializer and random layer without a seed from this one.
    keras.utils.set_random_seed(seed)
    network = architecture(hidden_units, image_shape, classes)
    check_network(network, "The network", image_shape, classes)
    check_trainable(network)
    return network


def compile_network(network: Any, optimizer: Any, loss: Any, metrics: Any) -> None:
    """Compiles a network, after checks that it can be saved after its training.

    Args:
        network: the result of `build_network`.
        optimizer: a keras.optimizers.Optimizer.
        loss: a loss as for Keras's `compile`.
        metrics: a list of metrics as for Keras's `compile`.

    Raises:
        UserError: one of them is of another kind, or cannot be saved.
    """
    check_optimizer(optimizer)
    resolve_loss(loss)
    check_list("metrics", metrics)
    check_savable(network, optimizer, loss, metrics)
    network.compile(optimizer, loss, metrics=metrics)
