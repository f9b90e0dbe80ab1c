"""Converts networks shaped like well-known small models, with random weights, in a separate process.

python tests/conformance/convert.py <name> out.tflite
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np


def resnet8(k: Any, layers: Any) -> Any:
    """MLPerf Tiny's image classification: three residual stages on 32 x 32 x 3."""
    x = source = k.Input((32, 32, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same")(x)))
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        y = layers.Conv2D(filters, 3, strides=stride, padding="same")(x)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same")(y))
        if stride != 1:
            x = layers.Conv2D(filters, 1, strides=stride, padding="same")(x)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Flatten()(layers.AveragePooling2D(8)(x))
    return k.Model(source, layers.Dense(10, activation="softmax")(x))


def mobilenet(k: Any, layers: Any) -> Any:
    """MLPerf Tiny's visual wake words: MobileNetV1 with a quarter of the channels on 96 x 96 x 3."""
    return k.applications.MobileNet((96, 96, 3), alpha=0.25, weights=None, classes=2)


def wake_word(k: Any, layers: Any) -> Any:
    """One-dimensional separable convolutions over 30 frames of 40 bands."""
    x = source = k.Input((30, 40))
    for filters, size in ((32, 3), (32, 5), (24, 7)):
        x = layers.SeparableConv1D(filters, size, padding="same")(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv1D(16, 3, strides=2, activation="relu")(x)
    return k.Model(source, layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling1D()(x)))


def micro_speech(k: Any, layers: Any) -> Any:
    """1960 values in a row, one convolution, one dense layer."""
    x = source = k.Input((1960,))
    x = layers.Reshape((49, 40, 1))(x)
    x = layers.DepthwiseConv2D((10, 8), (2, 2), "same", depth_multiplier=8, activation="relu")(x)
    return k.Model(source, layers.Dense(4, activation="softmax")(layers.Flatten()(x)))


def magic_wand(k: Any, layers: Any) -> Any:
    """Gestures of 128 samples of three axes."""
    x = source = k.Input((128, 3, 1))
    x = layers.Conv2D(8, (4, 3), padding="same", activation="relu")(x)
    x = layers.Dropout(0.1)(layers.MaxPooling2D((3, 3))(x))
    x = layers.Conv2D(16, (4, 1), padding="same", activation="relu")(x)
    x = layers.Dropout(0.1)(layers.MaxPooling2D((3, 1), padding="same")(x))
    x = layers.Dense(16, activation="relu")(layers.Flatten()(x))
    return k.Model(source, layers.Dense(4, activation="softmax")(x))


def decoder(k: Any, layers: Any) -> Any:
    """An autoencoder that shrinks and grows again, with separate activations."""
    x = source = k.Input((16, 16, 1))
    x = layers.LeakyReLU(negative_slope=0.1)(layers.Conv2D(6, 3, strides=2, padding="same")(x))
    x = layers.Activation("hard_swish")(layers.Conv2D(8, 3, strides=2, padding="same")(x))
    x = layers.Reshape((4, 4, 8))(layers.Dense(128)(layers.Dense(10, activation="tanh")(layers.Flatten()(x))))
    x = layers.Conv2DTranspose(6, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Resizing(16, 16, interpolation="nearest")(x)
    x = layers.Concatenate()([x, layers.Activation("sigmoid")(x)])
    x = layers.ZeroPadding2D(1)(layers.Conv2D(3, 3, dilation_rate=2, padding="same")(x))
    return k.Model(source, layers.Dense(256)(layers.Flatten()(layers.Cropping2D(1)(x))))


def squeeze_excite(k: Any, layers: Any) -> Any:
    """A normalised input, and channels weighted by all positions."""
    x = source = k.Input((12, 10, 3))
    x = layers.Normalization(mean=[0.1, -0.2, 0.3], variance=[0.5, 1.0, 2.0])(x)
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    gate = layers.Conv2D(2, 1, activation="relu")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    x = layers.Multiply()([x, layers.Conv2D(8, 1, activation="sigmoid")(gate)])
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, activation="hard_swish")(x))
    return k.Model(source, layers.Dense(3, activation="softmax")(x))


def keras_keywords(k: Any, layers: Any) -> Any:
    x = source = k.Input((49, 10))
    x = layers.Dropout(0.2)(layers.LSTM(32)(x))
    return k.Model(source, layers.Dense(12, activation="softmax")(x))


def keras_stacked(k: Any, layers: Any) -> Any:
    x = source = k.Input((10, 7))
    x = layers.LSTM(5)(layers.LSTM(9, return_sequences=True)(x))
    return k.Model(source, layers.Dense(4, activation="softmax")(x))


def keras_at_each_step(k: Any, layers: Any) -> Any:
    x = source = k.Input((10, 7))
    x = layers.LSTM(9, return_sequences=True)(layers.Conv1D(8, 3, activation="relu")(x))
    x = layers.Flatten()(layers.Dense(6, activation="relu")(x))
    return k.Model(source, layers.Dense(4, activation="softmax")(x))


def keras_both_ways(k: Any, layers: Any) -> Any:
    x = source = k.Input((10, 7))
    return k.Model(source, layers.Dense(4)(layers.Bidirectional(layers.LSTM(9))(x)))


NETWORKS = (resnet8, mobilenet, wake_word, micro_speech, magic_wand, decoder, squeeze_excite)
# Only TensorFlow 2.15 converts them (see lstm_models.py).
RECURRENT = (keras_keywords, keras_stacked, keras_at_each_step, keras_both_ways)


def main() -> None:
    import tensorflow as tf

    tf.keras.utils.set_random_seed(1)
    build = next(b for b in (*NETWORKS, *RECURRENT) if b.__name__ == sys.argv[1])
    model = build(tf.keras, tf.keras.layers)
    shape = model.input_shape[1:]
    # One sample at a time: then the converter knows all shapes.
    model = tf.keras.models.clone_model(model, tf.keras.Input(shape, batch_size=1))
    rng = np.random.default_rng(1)
    normalisations = [n for n in model.layers if isinstance(n, tf.keras.layers.BatchNormalization)]
    for layer in normalisations:  # moments and biases as after training
        layer.momentum = 0.0
    model(rng.normal(0, 1, (1, *shape)).astype(np.float32), training=True)
    for layer in normalisations:
        gamma, beta, mean, variance = layer.get_weights()
        layer.set_weights([gamma, rng.normal(0, 0.3, beta.shape), mean, variance + 0.1])

    def samples() -> Any:
        for _ in range(20):
            yield [rng.normal(0, 1, (1, *shape)).astype(np.float32)]

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    Path(sys.argv[2]).write_bytes(converter.convert())


if __name__ == "__main__":
    main()
