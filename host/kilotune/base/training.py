"""How a base model is trained and quantised: dense layers, Adam, noise on the inputs, int8."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kilotune.image import metadata
from kilotune.image.base_profile import Profile
from kilotune.terms import Loss
from kilotune.tflite.convert import import_tensorflow, quantize
from kilotune.tflite.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from kilotune.image.features import FeatureConfig

    Floats = NDArray[np.float32]

INPUT_SCALE = 6 / 127  # six deviations to either side
NOISE = 0.5  # added to training inputs, in deviations
LEAST_STD = 0.01  # log2; a band that never leaves the floor
STEPS = 6000


@dataclass(frozen=True, slots=True)
class Trained:
    """An autoencoder as a `.tflite` with features and profile, and what was measured on its training windows."""

    tflite: bytes
    profile: Profile
    residual_variance: float  # of the int8 model, in variances of the inputs
    float_residual_variance: float


def widths_for(inputs: int) -> tuple[int, ...]:
    """Units of an autoencoder's layers: two thirds, then a sixth of the inputs, in multiples of four."""

    def quarter(share: float) -> int:
        return max(8, 4 * round(inputs * share / 4))

    wide, narrow = quarter(2 / 3), quarter(1 / 6)
    return (inputs, wide, narrow, wide, inputs)


def train_autoencoder(
    x: Floats, features: FeatureConfig, widths: Sequence[int], *, steps: int = STEPS, seed: int = 1
) -> Trained:
    """An autoencoder that reconstructs the features `x`, shape (windows, inputs), of healthy machines.

    KilotuneError `no_tensorflow`.
    """
    tf = import_tensorflow()
    tf.keras.utils.set_random_seed(seed)
    mean, std = x.mean(0), np.maximum(x.std(0), LEAST_STD)
    z = standardise(x, mean, std)
    model = dense(tf, widths)
    fit(tf, model, lambda a, b: tf.reduce_mean((a - b) ** 2), z, z, steps, seed=seed + 1)
    tflite = quantize(model, representative(z), output_scale=INPUT_SCALE)
    residual = run_int8(tf, tflite, z) - z
    spread = np.maximum(residual.std(0), 1e-3)
    threshold = float(np.log2(np.quantile(((residual / spread) ** 2).mean(1), 0.99)))
    profile = Profile(mean, std, spread, round(threshold, 3))
    described = metadata.ModelMetadata(features=features, profile=profile, loss=Loss.reconstruction)
    return Trained(
        metadata.write(tflite, described),
        profile,
        round(float((residual**2).mean()), 4),
        round(float(((model(z).numpy() - z) ** 2).mean()), 4),
    )


def standardise(x: Floats, mean: NDArray[Any], std: NDArray[Any]) -> Floats:
    """Features to the model's input, clipped to what its int8 can say."""
    return np.asarray(np.clip((x - mean) / std, -6, 6), np.float32)


def dense(tf: Any, widths: Sequence[int], softmax: bool = False) -> Any:
    """A Keras model of dense layers: ReLU, the last one linear."""
    layers = tf.keras.layers
    hidden = [layers.Dense(w, "relu") for w in widths[1:-1]]
    return tf.keras.Sequential(
        [layers.Input((widths[0],)), *hidden, layers.Dense(widths[-1])] + [layers.Softmax()] * softmax
    )


def fit(tf: Any, model: Any, loss: Any, x: Floats, y: NDArray[Any], steps: int, seed: int) -> None:
    """Adam with a rate that falls to zero along a cosine; noise on the inputs, not on the targets."""
    optimizer = tf.keras.optimizers.Adam(tf.keras.optimizers.schedules.CosineDecay(2e-3, steps))
    inputs, targets = tf.constant(x), tf.constant(y)
    noise = tf.random.Generator.from_seed(seed)

    @tf.function  # type: ignore[untyped-decorator]
    def step() -> None:
        rows = noise.uniform((32,), 0, len(x), tf.int32)
        batch, wanted = tf.gather(inputs, rows), tf.gather(targets, rows)
        with tf.GradientTape() as tape:
            value = loss(wanted, model(batch + NOISE * noise.normal(tf.shape(batch))))
        weights = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(value, weights), weights, strict=True))

    for _ in range(steps):
        step()


def representative(x: Floats, count: int = 2000, seed: int = 5) -> Floats:
    """Inputs that set the scales, with both ends of the input's range among them."""
    rows = np.random.default_rng(seed).choice(len(x), min(count, len(x)), replace=False)
    chosen: Floats = x[rows].copy()
    chosen[0, 0], chosen[-1, -1] = -128 * INPUT_SCALE, 127 * INPUT_SCALE
    return chosen


def run_int8(tf: Any, tflite: bytes, x: Floats) -> Floats:
    """Outputs of the int8 model in real units: (n, inputs) to (n, outputs)."""
    with quiet():
        interpreter = tf.lite.Interpreter(model_content=tflite)
        entry, leave = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        interpreter.resize_tensor_input(entry["index"], x.shape)
        interpreter.allocate_tensors()
    scale, zero = entry["quantization"]
    interpreter.set_tensor(entry["index"], np.clip(np.rint(x / scale) + zero, -128, 127).astype(np.int8))
    interpreter.invoke()
    scale, zero = leave["quantization"]
    return np.asarray((interpreter.get_tensor(leave["index"]).astype(np.float32) - zero) * scale, np.float32)
