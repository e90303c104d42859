"""How a training uses the machine: number format, XLA, several steps in one call, and fused operations.

Measurements are in `experiments/benchmarks/speed.md`. What only comes from the documentation of Nvidia and TensorFlow is
marked so here.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from pbl.models import count_trainable_weights
from pbl.models.calls import replaced_calls
from pbl.models.keras_private import find_moments, find_place, flatten_layers

SMALL, STEPS_OF_SMALL = 5_000_000, 8
LARGE_STEPS = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.MultiHeadAttention,
)


def choose_precision(setting: str = "auto") -> str:
    """Returns the name of the dtype policy for this machine.

    Args:
        setting: A policy, which is returned; or "auto": on a CPU "mixed_bfloat16" if it multiplies bfloat16 itself
            (flags `amx_bf16`, `avx512_bf16`), else "float32"; on a GPU "mixed_bfloat16" from compute capability 8.0 on
            (A100, L4), "mixed_float16" from 7.0 on (V100, T4), else "float32" (from documentation).
    """
    if setting != "auto":
        return setting
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        return "mixed_bfloat16" if capability >= (8, 0) else "mixed_float16" if capability >= (7, 0) else "float32"
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "float32"
    return "mixed_bfloat16" if "amx_bf16" in flags or "avx512_bf16" in flags else "float32"


def is_native(policy: str) -> bool:
    """Returns whether this machine computes in a dtype policy without emulating it."""
    return policy == "float32" or bool(tf.config.list_physical_devices("GPU")) or policy == choose_precision()


@contextlib.contextmanager
def precision(policy: str) -> Iterator[None]:
    """Inside it, layers are built with this dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def is_faster_in_float32(model: keras.Model) -> bool:
    """Returns whether a model is slower in bfloat16 on this machine: on a CPU, models with depthwise convolutions are."""
    return not tf.config.list_physical_devices("GPU") and any(
        isinstance(layer, keras.layers.DepthwiseConv2D) for layer in flatten_layers(model)
    )


def choose_strategy(setting: str = "auto") -> tf.distribute.Strategy:
    """Returns how a training is distributed over the machine's devices, for the scope of building and compiling.

    With several GPUs, each computes its part of every batch, and they take one step together: with the same `batch_size` the
    result is that of one GPU except for rounding. Batch normalisation takes mean and variance over each GPU's own part.

    Args:
        setting: "auto": all GPUs; "none": the first GPU.
    """
    devices = list_devices()
    if setting == "auto" and len(devices) > 1:
        return _mirror(tuple(device.name for device in devices))
    return tf.distribute.get_strategy()


@functools.cache  # two strategies in one process would mix up their sums
def _mirror(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(devices)


def list_devices() -> list[tf.config.LogicalDevice]:
    """Returns the devices that a training may be distributed over."""
    return tf.config.list_logical_devices("GPU")


def choose_steps_per_execution(
    setting: int | str, model: keras.Model, steps_per_epoch: int, callbacks: Sequence[keras.callbacks.Callback] = ()
) -> int:
    """Returns how many steps are done in one call of TensorFlow.

    Args:
        setting: The number, which is returned; or "auto": 8 for a small network with only dense layers, for which the call costs
            as much as the step, else 1.
        model: The model.
        steps_per_epoch: Batches in an epoch.
        callbacks: If one of them looks at single steps, "auto" is 1: otherwise it would see only every eighth step.
    """
    if setting != "auto":
        return int(setting)
    is_watched = any(
        hook in vars(callback)  # as a LambdaCallback has it
        or getattr(type(callback), hook) is not getattr(keras.callbacks.Callback, hook)
        for callback in callbacks
        for hook in ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    )
    is_small = count_trainable_weights(model) < SMALL and not any(
        isinstance(layer, LARGE_STEPS) for layer in flatten_layers(model)
    )
    return STEPS_OF_SMALL if is_small and not is_watched and steps_per_epoch >= 2 * STEPS_OF_SMALL else 1


@contextlib.contextmanager
def fused_operations(model: keras.Model) -> Iterator[None]:
    """Inside it, a compiled model's `fit` uses `fused_batch_normalization` and `fused_updates`."""
    with fused_batch_normalization(model), fused_updates(model):
        yield


@contextlib.contextmanager
def fused_updates(model: keras.Model) -> Iterator[bool]:
    """Inside it, SGD with momentum, Adam and AdamW change a weight by one operation of TensorFlow; yields whether they do.

    Keras 3 needs five to ten operations. The optimizer remains Keras's own, and so does what is saved. SGD's result is the same to the
    last bit, Adam's to 1e-6 of the weights' size per step (its second moments to 2e-5: 1 - beta_2 is rounded to float32). With
    several devices, on a GPU and under XLA nothing is changed.
    """
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    fuse = {keras.optimizers.SGD: _fuse_sgd, keras.optimizers.Adam: _fuse_adam, keras.optimizers.AdamW: _fuse_adam}
    fuse = fuse.get(type(optimizer))
    if (
        fuse is None
        or keras.backend.backend() != "tensorflow"
        or tf.config.list_physical_devices("GPU")
        or model.jit_compile
        or model.distribute_strategy.num_replicas_in_sync > 1
    ):
        yield False
        return
    stock, update = optimizer.update_step, fuse(optimizer)

    def update_step(gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        is_plain = isinstance(gradient, tf.Tensor) and variable.dtype == tf.float32  # Embedding's are sparse
        (update if is_plain else stock)(gradient, variable, learning_rate)

    optimizer.update_step = update_step
    try:
        yield True
    finally:
        del optimizer.update_step


def _fuse_sgd(optimizer: keras.optimizers.SGD) -> Callable:
    stock = optimizer.update_step
    if not optimizer.momentum:
        return stock

    def update(gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        at = find_place(optimizer, variable)
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=optimizer.momentums[at].value.handle,
            lr=tf.cast(learning_rate, tf.float32),
            grad=tf.cast(gradient, tf.float32),
            momentum=optimizer.momentum,
            use_nesterov=optimizer.nesterov,
        )

    return update


def _fuse_adam(optimizer: keras.optimizers.Adam) -> Callable:
    if optimizer.amsgrad:
        return optimizer.update_step

    def update(gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        at = find_place(optimizer, variable)
        momentums, velocities = find_moments(optimizer)
        step = keras.ops.cast(optimizer.iterations + 1, "float32")
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=momentums[at].value.handle,
            v=velocities[at].value.handle,
            beta1_power=tf.pow(optimizer.beta_1, step),
            beta2_power=tf.pow(optimizer.beta_2, step),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=optimizer.beta_1,
            beta2=optimizer.beta_2,
            epsilon=optimizer.epsilon,
            grad=tf.cast(gradient, tf.float32),
        )

    return update


@contextlib.contextmanager
def fused_batch_normalization(model: keras.Model) -> Iterator[int]:
    """Inside it, a model's batch normalisation is computed by TensorFlow's fused operation; yields the number of layers.

    Keras 3 computes it on TensorFlow with about ten operations, and in mixed precision in float32. The layers remain Keras's
    own, and so does what is saved. Outputs and gradients are equal to 1e-6 of their size in float32, moving averages to
    1e-5. On a GPU nothing is changed: there XLA fuses Keras's own operations (from documentation).
    """
    layers = []
    if keras.backend.backend() == "tensorflow" and not tf.config.list_physical_devices("GPU"):
        layers = [layer for layer in flatten_layers(model) if type(layer) is keras.layers.BatchNormalization]
        layers = [layer for layer in layers if not layer.synchronized]
    with replaced_calls(layers, _fuse):
        yield len(layers)


def _fuse(layer: keras.layers.BatchNormalization, stock: Callable) -> Callable:
    def call(inputs, training=None, mask=None):
        rank = len(inputs.shape)
        if rank != 4 or layer.axis not in (-1, 3) or mask is not None or inputs.dtype == tf.float16:
            return stock(inputs, training=training, mask=mask)
        moving_mean, moving_variance = (tf.convert_to_tensor(v) for v in (layer.moving_mean, layer.moving_variance))
        scale = tf.cast(layer.gamma, tf.float32) if layer.scale else tf.ones_like(moving_mean)
        offset = tf.cast(layer.beta, tf.float32) if layer.center else tf.zeros_like(moving_mean)
        if not (training and layer.trainable):
            return tf.raw_ops.FusedBatchNormV3(
                x=inputs,
                scale=scale,
                offset=offset,
                mean=moving_mean,
                variance=moving_variance,
                epsilon=layer.epsilon,
                is_training=False,
            ).y
        fused = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=scale, offset=offset, mean=[], variance=[], epsilon=layer.epsilon, is_training=True
        )
        # The operation returns the variance divided by n - 1; Keras's moving average uses the variance divided by n.
        n = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), tf.float32)
        variance = fused.batch_variance * (n - 1) / n
        keep = layer.momentum
        layer.moving_mean.assign(moving_mean * keep + fused.batch_mean * (1 - keep))
        layer.moving_variance.assign(moving_variance * keep + variance * (1 - keep))
        return fused.y

    return call
