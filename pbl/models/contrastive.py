"""Contrastive learning: an encoder that puts similar images close together, and all others apart.

Chen, Kornblith, Norouzi and Hinton (2020), arXiv:2002.05709: SimCLR, without labels: two views of one image are alike; Khosla et al.
(2020), arXiv:2004.11362: with labels: all images of a class are alike. They learn no classes: `task=contrast`. The encoder is any
builder of this package, cut off before its last layer; `encoder_transfer` makes a classifier of it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from keras import layers, ops

from pbl.errors import InputError, name_nearest
from pbl.models.calls import replaced_calls
from pbl.models.card import SMALL, Card
from pbl.models.keras_private import flatten_layers, has_inner_layers, open_tape

CHEN, KHOSLA = "Chen et al. 2020, arXiv:2002.05709", "Khosla et al. 2020, arXiv:2004.11362"
# Weights of encoder and projection; multiply-accumulates of the encoder: only the encoder is used afterwards.
CARDS = {
    "simclr": Card("subclassed", 2020, CHEN, SMALL, 10, 318_608, 40_550_400, task="contrast"),
    "supcon": Card("subclassed", 2020, KHOSLA, SMALL, 10, 318_608, 40_550_400, task="contrast"),
    "encoder_transfer": Card("Functional", 2020, CHEN, SMALL, 10, 269_722, 40_551_040),
}
BUILDERS: dict[
    str, Callable[..., keras.Model]
] = {}  # filled by `pbl.models`, which knows all builders; importing it here would be circular
ITSELF = -1e9  # replaces the similarity of an embedding to itself, so that its share is 0


def contrastive_loss(embeddings, alike, temperature: float):
    """Computes NT-Xent, and the supervised contrastive loss: minus the log of the share of alike embeddings among all others.

    For each embedding i, with P(i) the other embeddings that are alike, and s the cosine divided by the temperature:

        loss_i = -1 / |P(i)| * sum over p in P(i) of log(exp(s_ip) / sum over a != i of exp(s_ia))

    NT-Xent (Chen et al. 2020, equation 1) has one such p, the image's other view; with labels it is L_out of Khosla et al. (2020,
    equation 2). If all embeddings are equally similar, the loss is ln(2B - 1), for B images with two views each.

    Args:
        embeddings: `float32 [n, size]`, each of length 1.
        alike: `int [n]`: equal numbers are alike, such as the number of the image, or its class. Each number occurs at least twice.
        temperature: Above 0; Chen et al. take .1 to .5. With a lower one the nearest others count more.

    Returns:
        The mean over the embeddings, `float32`.
    """
    n = ops.shape(embeddings)[0]
    similarity = ops.matmul(embeddings, ops.transpose(embeddings)) / temperature  # [n, n]
    others = 1.0 - ops.eye(n)  # [n, n]: 0 for an embedding and itself
    log_shares = similarity - ops.logsumexp(similarity + ITSELF * (1.0 - others), axis=1, keepdims=True)  # [n, n]
    positives = ops.cast(ops.equal(alike[:, None], alike[None, :]), "float32") * others  # [n, n]
    return -ops.mean(ops.sum(positives * log_shares, axis=1) / ops.sum(positives, axis=1))


@keras.saving.register_keras_serializable("pbl")
class Contrastive(keras.Model):
    """An encoder and a projection that are trained by a contrastive loss on two views of each image.

    Called on images it returns their features, `float32 [batch, features]`, the values before the projection. The projection is not used
    after training (Chen et al. 2020, section 4.2: the features before it work better).

    Args:
        encoder: From images, pixels 0 to 255, to features `[batch, features]`.
        projection: From features to embeddings `[batch, size]`.
        temperature: Temperature of the loss.
        supervised: Whether all images of a class are alike, or only the views of an image.
        negatives: False: only pulls alike images together, and pushes nothing apart; then all embeddings become equal.
    """

    def __init__(
        self,
        encoder: keras.Model,
        projection: keras.Model,
        temperature: float = 0.2,
        supervised: bool = False,
        negatives: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.encoder, self.projection = encoder, projection
        self.temperature, self.supervised, self.negatives = temperature, supervised, negatives
        self.trackers = [keras.metrics.Mean(name=name) for name in ("loss", "guessing", "match", "spread")]
        self.built = True  # its two networks are built; Keras would not know that for the model

    @property
    def metrics(self):
        return self.trackers

    def call(self, images, training=None):
        return ops.cast(self.encoder(images, training=training), "float32")

    def embed(self, images, training=False):
        """Embeddings on the unit sphere, `float32 [batch, size]`: the vectors that the loss compares."""
        z = ops.cast(self.projection(self.encoder(images, training=training), training=training), "float32")
        return z / ops.maximum(ops.norm(z, axis=1, keepdims=True), 1e-8)

    def train_step(self, data):
        """One step on a batch of two views of each image, `[batch, 2, height, width, channels]`, and labels `[batch]`."""
        with open_tape() as tape:
            loss, z = self._compute(data, training=True)
            scaled = self.optimizer.scale_loss(loss)
        weights = self.trainable_weights
        self.optimizer.apply(tape.gradient(scaled, weights), weights)
        self._track(loss, z)
        return self.get_metrics_result()

    def test_step(self, data):
        """The same loss in inference mode."""
        self._track(*self._compute(data, training=False))
        return self.get_metrics_result()

    def _compute(self, data, training):
        views, labels = data[0], data[1]  # [batch, 2, height, width, channels], [batch]
        images = ops.concatenate(
            [views[:, 0], views[:, 1]]
        )  # [2 batch, height, width, channels]: all first views, all second
        z = self.embed(images, training=training)  # [2 batch, size]
        n = ops.shape(views)[0]
        if not self.negatives:
            return -ops.mean(ops.sum(z[:n] * z[n:], axis=1)) / self.temperature, z
        alike = labels if self.supervised else ops.arange(n)  # [batch]
        return contrastive_loss(z, ops.concatenate([alike, alike]), self.temperature), z

    def _track(self, loss, z):
        """`guessing`: the loss if nothing is told apart; `match`: share of views whose most similar other is the other view of the same image;
        `spread`: see `pbl.evaluation.contrast.measure_spread`."""
        count = ops.shape(z)[0]  # 2 batch
        similarity = ops.matmul(z, ops.transpose(z)) + ITSELF * ops.eye(count)
        partner = (ops.arange(count) + count // 2) % count
        nearest = ops.cast(ops.argmax(similarity, axis=1), "int32")
        found = ops.cast(ops.equal(nearest, ops.cast(partner, "int32")), "float32")
        variance = 1.0 - ops.sum(ops.square(ops.mean(z, axis=0)))  # for points of length 1
        values = (
            loss, ops.log(ops.cast(count - 1, "float32")), ops.mean(found), ops.sqrt(ops.maximum(variance, 0.0)),
        )  # fmt: skip
        for tracker, value in zip(self.trackers, values, strict=True):
            tracker.update_state(value)

    def get_config(self):
        networks = {
            name: keras.saving.serialize_keras_object(getattr(self, name)) for name in ("encoder", "projection")
        }
        options = {name: getattr(self, name) for name in ("temperature", "supervised", "negatives")}
        return {**super().get_config(), **networks, **options}

    @classmethod
    def from_config(cls, config):
        networks = {name: keras.saving.deserialize_keras_object(config.pop(name)) for name in ("encoder", "projection")}
        return cls(**networks, **config)


@keras.saving.register_keras_serializable("pbl")
class WithoutHead(keras.Model):
    """A subclassed classifier whose last layer is skipped. A Functional one is cut, and does not need this."""

    def __init__(self, classifier: keras.Model, **kwargs):
        super().__init__(**kwargs)
        self.classifier = classifier
        head = classifier.layers[-1]
        head.trainable, head.call = False, lambda x, **_: x
        self.built = True

    def call(self, images, training=None):
        return self.classifier(images, training=training)

    def get_config(self):
        return {**super().get_config(), "classifier": keras.saving.serialize_keras_object(self.classifier)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("classifier")), **config)


def build_classifier(
    name: str, input_shape: tuple[int, int, int], num_classes: int, options: dict[str, Any] | None = None
) -> keras.Model:
    """Builds a classifier from which an encoder is cut; arguments and errors as for `build_encoder`."""
    if name not in BUILDERS:
        raise InputError(
            "model_options.encoder: no model is called '{name}'. {nearest}",
            name=name,
            nearest=name_nearest(name, BUILDERS),
        )
    if not isinstance(options or {}, dict):
        raise InputError(
            "model_options.encoder_options={options}: the encoder's own options by their names, such as"
            ' model_options.encoder_options={{"dropout":0.1}}.',
            options=options,
        )
    try:
        return BUILDERS[name](input_shape, num_classes, **(options or {}))
    except TypeError as error:
        raise InputError(
            "model_options.encoder_options={options} do not fit '{name}': {error}",
            options=options,
            name=name,
            error=error,
        ) from None


def build_encoder(
    name: str, input_shape: tuple[int, int, int], num_classes: int, options: dict[str, Any] | None = None
) -> keras.Model:
    """Builds a classifier of this package, and cuts it off before its last layer.

    Args:
        name: A name in `pbl.models.MODELS`.
        input_shape: (height, width, channels), pixels 0 to 255.
        num_classes: Of the classifier that is cut; it does not change the encoder.
        options: The builder's own options.

    Returns:
        A model from images to features `[batch, features]`.

    Raises:
        InputError: There is no such model or option; it is not a classifier, or ends in several outputs.
    """
    classifier = build_classifier(name, input_shape, num_classes, options)
    is_functional = bool(getattr(classifier, "inputs", None))  # a subclassed model does not know its inputs
    head = classifier.layers[-1] if classifier.layers else None
    if not isinstance(head, layers.Dense) or (is_functional and len(classifier.outputs) > 1):
        raise InputError(
            "model_options.encoder={name}: an encoder is a classifier that ends in one dense layer, which is removed, such as resnet20.",
            name=name,
        )
    if not is_functional and head is not find_output_layer(classifier, input_shape):
        raise InputError(
            "model_options.encoder={name}: its last layer must be the last that __init__ sets, so that it can be found and removed.",
            name=name,
        )
    if not is_functional:
        encoder = WithoutHead(classifier, name="encoder")
    else:
        encoder = keras.Model(classifier.inputs[0], head.input, name="encoder")
    shape = encoder(keras.Input(input_shape)).shape
    if len(shape) != 2:
        raise InputError(
            "model_options.encoder={name} gives features of the shape {shape}: it must give one row for each image.",
            name=name,
            shape=tuple(shape[1:]),
        )
    return encoder


def find_output_layer(model: keras.Model, input_shape: tuple[int, ...]) -> keras.Layer:
    """Returns the layer with weights that makes the output of a classifier.

    A Functional model has it last. A subclassed one lists its layers as `__init__` sets them, in any order, so it is called once: the layer
    is the one whose output the model returns, or, if a function such as softmax follows, the last one that gave an output of that shape.

    Args:
        model: A classifier.
        input_shape: (height, width, channels) of the images that it was built for.

    Raises:
        InputError: The layer is not found.
    """
    last: Any = model
    while isinstance(last, keras.Model) and getattr(last, "inputs", None):
        last = ([layer for layer in last.layers if layer.weights] or last.layers)[-1]
    if last is not model:
        return last
    calls: list[tuple[keras.Layer, Any]] = []

    def watch(layer: keras.Layer, original: Callable) -> Callable:
        def call(*arguments: Any, **options: Any) -> Any:
            outputs = original(*arguments, **options)
            calls.append((layer, outputs))
            return outputs

        return call

    with replaced_calls(
        [layer for layer in flatten_layers(model) if layer.weights and not has_inner_layers(layer)], watch
    ):
        output = model(ops.zeros((1, *input_shape)), training=False)
    same = [layer for layer, given in calls if given is output]
    similar = [layer for layer, given in calls if getattr(given, "shape", None) == getattr(output, "shape", ())]
    if not (same or similar):
        raise InputError(
            "{name}: no layer gives its output, so that it is not known which weights are of the last layer. End it with a layer, such as "
            "self.classify = layers.Dense(num_classes).",
            name=model.name,
        )
    return (same or similar)[-1]


def list_encoder_weights(encoder: keras.Model) -> list[keras.Variable]:
    """Returns the weights of an encoder from `build_encoder`, in the order of `list_body_weights` of the classifier that was cut."""
    return list_body_weights(encoder.classifier) if isinstance(encoder, WithoutHead) else encoder.weights


def list_body_weights(classifier: keras.Model) -> list[keras.Variable]:
    """Returns the weights of a classifier without the weights of its last layer."""
    head = {id(weight) for weight in classifier.layers[-1].weights}
    return [weight for weight in classifier.weights if id(weight) not in head]


def simclr(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    encoder: str = "resnet20",
    encoder_options: dict[str, Any] | None = None,
    hidden: int = 256,
    projection: int = 128,
    temperature: float = 0.2,
    negatives: bool = True,
) -> keras.Model:
    """Builds SimCLR (Chen et al. 2020, section 2 and algorithm 1): an encoder, and a projection of two dense layers.

    Different from the paper: the projection's hidden layer has `hidden` units, not as many as the features; the negatives are
    those of one device; the augmentation comes from the settings. The paper has larger batches (256 to 8,192) and longer trainings (100 to
    1,000 epochs).

    Args:
        input_shape: (height, width, channels), pixels 0 to 255.
        num_classes: Number of classes; the model does not depend on it.
        encoder: A classifier of this package; it is cut off before its last layer.
        encoder_options: The classifier's own options, such as {"dropout": 0.1}.
        hidden: Units of the projection's hidden layer.
        projection: Numbers in an embedding; 128 in the paper.
        temperature: Temperature of the loss; the paper takes .1 on ImageNet and .5 on CIFAR-10. If it is so high that all others count equally, nothing
            is learned.
        negatives: False leaves out the part that pushes apart: an experiment that shows how all embeddings become equal.

    Returns:
        A `Contrastive`, not compiled: images to features, `float32 [batch, features]`.

    Raises:
        InputError: An option out of range; the encoder cannot be cut.

    Example:
        >>> from pbl import models
        >>> model = models.simclr((32, 32, 3), 10)
        >>> models.count_trainable_weights(model)
        318608
    """
    made = build_encoder(encoder, input_shape, num_classes, encoder_options)
    return _join(made, input_shape, hidden, projection, temperature, "simclr", negatives=negatives)


def supcon(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    encoder: str = "resnet20",
    encoder_options: dict[str, Any] | None = None,
    hidden: int = 256,
    projection: int = 128,
    temperature: float = 0.1,
) -> keras.Model:
    """Builds the supervised contrastive network (Khosla et al. 2020): as `simclr`, but all images of a class are alike (L_out).

    It uses the labels of all training images. Arguments as for `simclr`; the paper's temperature is .1 too.

    Example:
        >>> from pbl import models
        >>> model = models.supcon((32, 32, 3), 10)
        >>> models.count_trainable_weights(model)
        318608
    """
    made = build_encoder(encoder, input_shape, num_classes, encoder_options)
    return _join(made, input_shape, hidden, projection, temperature, "supcon", supervised=True)


def _join(
    encoder: keras.Model,
    input_shape: tuple[int, int, int],
    hidden: int,
    projection: int,
    temperature: float,
    name: str,
    **options: bool,
) -> Contrastive:
    if not temperature > 0:
        raise InputError("model_options.temperature={temperature}: a number above 0.", temperature=temperature)
    if not encoder.trainable_weights:
        raise InputError(
            "model_options.encoder: it has nothing to train, because its weights are frozen, or it has none. Give "
            'model_options.encoder_options={{"weights":null}}, or another encoder.'
        )
    features = keras.Input(encoder(keras.Input(input_shape)).shape[1:], name="features")
    x = layers.Dense(hidden, activation="relu")(features)
    x = layers.Dense(projection, dtype="float32")(x)
    return Contrastive(encoder, keras.Model(features, x, name="projection"), temperature, name=name, **options)


def encoder_transfer(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    encoder: str = "resnet20",
    encoder_options: dict[str, Any] | None = None,
    weights: str | None = None,
    dropout: float = 0.0,
) -> keras.Model:
    """Builds a classifier on an encoder that learned by contrast: frozen, with one dense layer (the linear probe of Chen et al. 2020).

        python -m pbl train model=encoder_transfer model_options.weights=runs/mnist_simclr/001

    `fine_tune_epochs=5` also trains the encoder afterwards, at a low rate; batch normalisation stays as it is. To train everything from the first
    epoch on, take the encoder's own classifier with `initial_weights=RUN`.

    Args:
        input_shape: (height, width, channels), pixels 0 to 255.
        num_classes: Number of classes, at least 2.
        encoder, encoder_options: As in `simclr`; the same as in the run.
        weights: The folder of a run of `task=contrast`, or a `.weights.h5` of the encoder alone; None: random, and all layers are trained.
        dropout: Share of the features set to zero in training.

    Returns:
        A model, not compiled: `[batch, *input_shape]` to `float32 [batch, num_classes]`, rows that sum to 1.

    Raises:
        InputError: There is no such run, or it is of another encoder.

    Example:
        >>> from pbl import models
        >>> model = models.encoder_transfer((32, 32, 3), 10)
        >>> models.count_trainable_weights(model)
        269722
    """
    backbone = build_encoder(encoder, input_shape, num_classes, encoder_options)
    backbone.trainable = weights is None
    images = keras.Input(input_shape)
    x = layers.Dropout(dropout)(backbone(images))
    probabilities = layers.Dense(num_classes, activation="softmax", dtype="float32", name="head")(x)
    if weights is not None:
        take_encoder(backbone, weights, encoder, encoder_options or {})
    return keras.Model(images, probabilities, name="encoder_transfer")


MAY_DIFFER = ("weights", "dropout", "l2")  # options that do not change which weight belongs where


def take_encoder(backbone: keras.Model, weights: str, name: str, options: dict[str, Any]) -> None:
    """Copies the weights of another encoder into an encoder.

    Args:
        backbone: The encoder, as `build_encoder` returns it.
        weights: The folder of a run of `task=contrast`, or a `.weights.h5` of such an encoder.
        name, options: As for `build_encoder`.

    Raises:
        InputError: There is no such run or file, or it has another encoder, or one for images of another shape.
    """
    source = Path(weights).expanduser()
    if source.is_dir():
        assign_encoder(list_encoder_weights(backbone), source, name, options)
        return
    try:
        backbone.load_weights(source)
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            "weights='{weights}' is not a run of task=contrast, and cannot be loaded into the encoder {name}: {error}",
            weights=weights,
            name=name,
            error=" ".join(str(error).split())[:200],
        ) from None


def assign_encoder(weights: list[keras.Variable], source: Path, name: str, options: dict[str, Any]) -> None:
    """Assigns the weights of a run's encoder to others, in their order.

    Args:
        weights: As `list_encoder_weights` or `list_body_weights` returns them.
        source: The folder of a run of `task=contrast`.
        name, options: As for `build_encoder`.

    Raises:
        InputError: There is no such run, or it has another encoder, or one for images of another shape.
    """
    given = list_encoder_weights(load_encoder(source, name, options))
    if [tuple(weight.shape) for weight in given] != [tuple(weight.shape) for weight in weights]:
        raise InputError(
            "{run} learned from images of another shape, and its weights do not fit. Give the same image_size and channels.",
            run=source,
        )
    for weight, value in zip(weights, given, strict=True):
        weight.assign(value)


def load_encoder(folder: Path, name: str, options: dict[str, Any]) -> keras.Model:
    """Returns the trained encoder of a run of `task=contrast`; raises InputError unless it has this builder and these options."""
    from pbl.models.saving import whole_weights
    from pbl.runs import load_run

    run = load_run(folder)
    if run.config.task != "contrast" or run.config.model not in BUILDERS:
        raise InputError(
            "{run} is a run of task={task}, and has no encoder that learned by contrast. Give a run of task=contrast.",
            run=folder,
            task=run.config.task,
        )
    theirs = {**(run.environment.get("builder_options") or {}), **run.config.model_options}
    inner = theirs.get("encoder_options") or {}
    kept, wanted = ({key: value for key, value in of.items() if key not in MAY_DIFFER} for of in (inner, options))
    if theirs.get("encoder", "resnet20") != name or kept != wanted:
        raise InputError(
            "{run} has the encoder {theirs} with the options {kept}; requested is {name} with {wanted}. Give the same.",
            run=folder, theirs=theirs.get("encoder", "resnet20"), kept=kept, name=name, wanted=wanted,
        )  # fmt: skip
    shape, count = tuple(run.split["input_shape"]), len(run.split["class_names"])
    donor = BUILDERS[run.config.model](shape, count, **without_download({**run.config.model_options}))
    try:
        with whole_weights(folder, "best", donor, run.environment.get("best_epoch")) as file:
            donor.load_weights(file)
    except (OSError, ValueError, KeyError) as error:
        raise InputError("The encoder of {run} cannot be loaded: {error}", run=folder, error=error) from None
    return donor.encoder


def without_download(options: dict[str, Any]) -> dict[str, Any]:
    """Returns a builder's options such that its encoder starts with random weights: its own weights are loaded afterwards."""
    inner, name = options.get("encoder_options") or {}, options.get("encoder", "resnet20")
    if "weights" in inner or name.endswith("_transfer"):
        return {**options, "encoder_options": {**inner, "weights": None}}
    return options


def load_classifier(folder: Path, name: str, options: dict[str, Any]) -> keras.Model:
    """Returns the trained classifier of a run, or the encoder of a run of `task=contrast`.

    Args:
        folder: The run's folder.
        name, options: The model that it must be, as for `build_encoder`.

    Raises:
        InputError: There is no such run, or it has another model or other options.
    """
    from pbl.models.saving import whole_weights
    from pbl.runs import load_run

    run = load_run(folder)
    if run.config.task == "contrast":
        return load_encoder(folder, name, options)
    kept, wanted = (
        {key: value for key, value in of.items() if key not in MAY_DIFFER} for of in (run.config.model_options, options)
    )
    if run.config.model != name or kept != wanted:
        raise InputError(
            "{run} is a run of {theirs} with the options {kept}; requested is {name} with {wanted}. Give the same.",
            run=folder, theirs=run.config.model, kept=kept, name=name, wanted=wanted,
        )  # fmt: skip
    bare = {**run.config.model_options, **({"weights": None} if name.endswith("_transfer") else {})}
    donor = BUILDERS[name](tuple(run.split["input_shape"]), len(run.split["class_names"]), **bare)
    try:
        with whole_weights(folder, "best", donor, run.environment.get("best_epoch")) as file:
            donor.load_weights(file)
    except (OSError, ValueError, KeyError) as error:
        raise InputError("The weights of {run} cannot be loaded: {error}", run=folder, error=error) from None
    return donor
