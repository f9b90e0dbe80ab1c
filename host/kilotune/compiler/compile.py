"""Compiles an int8 `.tflite` into a model image: graph, training plan and memory plan in one file."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kilotune.compiler import graph as graph_module
from kilotune.compiler import losses, planning
from kilotune.compiler.graph import Graph
from kilotune.compiler.options import AUTO, CompileOptions, LayerChoice, loss_named
from kilotune.compiler.selection import Trainability, trainability
from kilotune.compiler.training_plan import LossPlan, Plan
from kilotune.errors import KilotuneError
from kilotune.image import metadata
from kilotune.image.base_profile import CalibrationSettings, LifeSettings, Profile
from kilotune.image.calibration_block import calibration_bytes
from kilotune.image.contents import Layer
from kilotune.image.envelope import seal
from kilotune.image.features import FeatureConfig
from kilotune.image.image import Image
from kilotune.image.layout import HEADER_BYTES, NONE, OP_BYTES, TENSOR_BYTES, Header, TensorEntry, TrainingSection
from kilotune.operators.base import SectionWriter
from kilotune.terms import Loss, Method, named
from kilotune.tflite import model as tflite_model

if TYPE_CHECKING:
    from kilotune.compiler.search import Budget, Found, Progress, Samples


def compile(
    tflite: bytes | str | Path,
    *,
    method: Method | str = "bias",
    last_layers: int | None = None,
    layers: Sequence[str | int] | None = None,
    channels: int | Mapping[str | int, Sequence[int]] | None = None,
    rank: int | None = None,
    chosen: Mapping[int, LayerChoice] | None = None,
    loss: Loss | str = AUTO,
    momentum: bool = False,
    accumulate: bool = False,
    adam: bool = False,
    recompute: bool = False,
    features: FeatureConfig | None = None,
    profile: Profile | None = None,
    reservoir: int = 32,
    early: int = 0,
    alone_windows: int | None = None,
    life: LifeSettings | Literal["auto"] | None = None,
) -> Image:
    """Compiles the int8 model `tflite` (its bytes or its path) for the device.

    `last_layers`: train only this many layers, counted from the last. `layers`: train only the layers with these
    names or numbers. Method "lora" trains updates of rank `rank` (1 to 8, default 2) of the weights of dense layers
    and 1x1 convolutions. "channels" trains the weights of some channels: `channels` is their number per layer
    (default 4, those with the largest weights), or lists them for each layer. "chosen" trains in each op what
    `chosen` says.
    `loss`: "reconstruction", "regression" or "classification" (also "cross_entropy"). "auto": the one in the
    model's metadata, else the one that suits its shape.
    `momentum` and `accumulate` reserve the optimiser state that they need. `adam` trains with Adam and reserves its
    state. `features` and `profile` default to the model's own metadata; without features, the model takes ready
    int8 inputs. `reservoir`: windows that the device keeps for training, including those held back, 1 to 255.
    `early`: windows of the first learn phase kept as a check on later ones, 3 to `reservoir`, or 0 for none; each
    takes one byte per model input. `alone_windows`: healthy windows that a device with a sensor learns from
    without a host, 0 for none; default: twice the reservoir. `life`: the device goes on learning after its first
    phase, as the settings say; "auto": with the usual ones, if the model can; None: it learns once. `recompute`:
    compute activations again for the backward pass where that makes the arena smaller; this costs instructions, and
    the learned bits are the same.
    Raises KilotuneError: `no_file`, `bad_model` (not a readable int8 .tflite), `unsupported_model` (an operator that
    cannot be run or not be trained that way: the message names it), `shared_tensor`, `bad_features`, `bad_argument`.
    """
    options = CompileOptions(
        method=named(Method, method),
        last_layers=last_layers,
        layers=None if layers is None else tuple(layers),
        channels=channels,
        rank=rank,
        chosen=chosen,
        loss=loss_named(loss),
        momentum=momentum,
        accumulate=accumulate,
        adam=adam,
        recompute=recompute,
        features=features,
        profile=profile,
        reservoir=reservoir,
        early=early,
        alone_windows=alone_windows,
        life=life,
    )
    return compile_with(tflite, options)


def compile_with(tflite: bytes | str | Path, options: CompileOptions) -> Image:
    """`compile` with all options in one value."""
    model = tflite_model.read(_content(tflite))
    graph = graph_module.build(model)
    if options.method is not Method.none:
        graph = graph_module.with_flat_output(graph)
    job = _settle(graph, options, metadata.from_model(model))
    plan = planning.plan(graph, job.options, calibration_bytes=job.calibration_bytes)
    return Image.from_bytes(_serialise(job, plan, model.sha256))


def compile_within(
    tflite: bytes | str | Path,
    budget: Budget,
    samples: Samples,
    *,
    options: CompileOptions | None = None,
    steps: int = 400,
    progress: Progress | None = None,
) -> tuple[Image, Found]:
    """Searches for what to train within `budget` (see `kilotune.compiler.search`) and compiles that.

    `options`: everything that the search does not decide itself. `steps`: training steps per measurement.
    """
    from kilotune.compiler import search

    options = options if options is not None else CompileOptions()
    options.require_nothing_searched()
    content = _content(tflite)
    model = tflite_model.read(content)
    graph = graph_module.with_flat_output(graph_module.build(model))
    job = _settle(graph, options, metadata.from_model(model))

    def ready(chosen: Mapping[int, LayerChoice]) -> Image:
        return compile_with(content, CompileOptions(method=Method.chosen, chosen=chosen, loss=job.loss))

    found = search.search(
        graph,
        ready,
        samples,
        budget,
        job.options,
        calibration_bytes=job.calibration_bytes,
        steps=steps,
        progress=progress,
    )
    return compile_with(content, replace(options, method=Method.chosen, chosen=found.best.chosen)), found


def trainable(tflite: bytes | str | Path, *, loss: Loss | str = AUTO) -> tuple[Trainability, ...]:
    """How each layer of the model can be trained with `loss`, or why it cannot be. Raises KilotuneError."""
    model = tflite_model.read(_content(tflite))
    graph = graph_module.with_flat_output(graph_module.build(model))
    kind = losses.choose_loss(graph, loss_named(loss) or metadata.from_model(model).loss)
    return trainability(graph, losses.plan_loss(graph, kind)[1])


def _content(tflite: bytes | str | Path) -> bytes:
    return tflite if isinstance(tflite, bytes) else read_file(Path(tflite))


def read_file(path: Path) -> bytes:
    """The bytes of a model file, up to a limit."""
    try:
        if path.stat().st_size > tflite_model.MAX_FILE_BYTES:
            raise KilotuneError(
                "unsupported_model",
                f"{path.name} has more than {tflite_model.MAX_FILE_BYTES} bytes",
                "a model for a microcontroller is far smaller: check that this is the right file",
            )
        return path.read_bytes()
    except OSError as error:
        raise KilotuneError("no_file", f"cannot read {path}: {error.strerror}", "check the path") from error


@dataclass(frozen=True, slots=True)
class _Job:
    """A graph and everything decided before planning. In `options`, the model's own values replace None."""

    graph: Graph
    options: CompileOptions
    loss: Loss
    settings: CalibrationSettings

    @property
    def calibration_bytes(self) -> int:
        """Bytes of the calibration block, with which the adapter begins."""
        features, profile = self.options.features, self.options.profile
        residuals = profile.residual_std.size if profile is not None else 0
        inputs = features.inputs if features is not None else 0
        return calibration_bytes(inputs, residuals, self.settings.windows, self.settings.early, self.settings.lives)


def _settle(graph: Graph, options: CompileOptions, own: metadata.ModelMetadata) -> _Job:
    """Fills in what was not asked for: from the model's `own` metadata, else as suits the graph."""
    loss = losses.choose_loss(graph, options.loss or own.loss)
    features = options.features if options.features is not None else own.features
    profile = options.profile if options.profile is not None else own.profile
    if features is None:
        options.require_used_without_features()
        if profile is not None:
            raise KilotuneError("bad_features", "a profile was given without features", "give both or neither")
    else:
        profile = _profile_for(graph, features, profile, loss)
    life = options.life_with(loss) if features is not None else None
    settings = CalibrationSettings.for_loss(loss, options.reservoir, options.early, options.alone_windows, life)
    return _Job(graph, replace(options, loss=loss, features=features, profile=profile), loss, settings)


def _profile_for(graph: Graph, features: FeatureConfig, profile: Profile | None, loss: Loss) -> Profile:
    """The profile, or one that changes nothing if there is none. Raises KilotuneError if the three do not fit."""
    inputs, outputs = graph.activations[graph.input].elements, graph.activations[graph.output].elements
    if graph.scales_differ:
        raise KilotuneError(
            "bad_features", f"features are quantised by one scale: {losses.DIFFERENT}", losses.ONE_SCALE
        )
    if features.inputs != inputs:
        raise KilotuneError(
            "bad_features",
            f"the features give {features.inputs} values ({features.axes} axes of "
            f"{features.features_per_axis}), but the model takes {inputs}",
            "change the bands, statistics or axes",
        )
    if loss is Loss.regression:
        raise KilotuneError(
            "bad_features",
            "features are for reconstruction and classification, and this model does regression",
            "compile it without features and train it on ready inputs",
        )
    residuals = 0 if loss is Loss.classification else outputs
    profile = profile or Profile.neutral(inputs, residuals)
    if profile.feature_mean.size != inputs or profile.residual_std.size != residuals:
        raise KilotuneError("bad_features", "the profile is not for this model", "create the profile again")
    return profile


def _meta(job: _Job, plan: Plan) -> dict[str, Any]:
    graph, features, profile = job.graph, job.options.features, job.options.profile
    layers = []
    for i, (op, decided) in enumerate(zip(graph.ops, plan.ops, strict=True)):
        weight_tensor, bias_tensor = op.parameters
        layer = Layer(
            op=i,
            source=op.source,
            name=op.name,
            kind=op.kind,
            inputs=op.inputs,
            outputs=op.outputs,
            macs=op.macs,
            bias_trained=decided.train_bias,
            weights_trained=decided.train_weights,
            bias_fraction_bits=decided.fraction_bits if decided.trained else 0,
            bias_offset=decided.bias_param,
            weight_offset=decided.weight_param,
            bias_tensor=bias_tensor,
            weight_tensor=weight_tensor,
            channels=decided.channels,
            rank=decided.rank,
        )
        layers.append(asdict(layer))
    border = {"input": asdict(graph.input_border), "output": asdict(graph.output_border)}
    memory = [[p.key, p.offset, p.size, p.first, p.last] for p in plan.arena.pieces]
    meta: dict[str, Any] = {
        "optimiser": "adam" if plan.training is not None and plan.training.adam else "sgd",
        "method": job.options.method, "loss": job.loss, "layers": layers, "border": border, "memory": memory,
        "reruns": plan.reruns,
    }  # fmt: skip
    if features is not None and profile is not None:
        meta["features"] = features.to_json()
        meta["profile"] = profile.to_json()
        meta["calibration"] = job.settings.to_json()
    return meta


def _serialise(job: _Job, plan: Plan, base_hash: bytes) -> bytes:
    graph, features, profile = job.graph, job.options.features, job.options.profile
    tensors_at = HEADER_BYTES
    ops_at = tensors_at + TENSOR_BYTES * len(graph.activations)
    start = ops_at + OP_BYTES * len(graph.ops)
    sections = SectionWriter(start)
    tensors = b"".join(_tensor(graph, plan, i) for i in range(len(graph.activations)))
    ops = b"".join(op.write(sections, p) for op, p in zip(graph.ops, plan.ops, strict=True))
    training_at = sections.add(_training(plan, sections)) if plan.training else 0
    features_at = profile_at = 0
    if features is not None and profile is not None:
        features_at = sections.add(features.section(start + len(sections.content)))
        input_scale = float(graph.activations[graph.input].scale)
        loss_scale = max(input_scale, float(graph.activations[graph.output].scale))
        profile_at = sections.add(
            profile.section(start + len(sections.content), job.settings, input_scale=input_scale, loss_scale=loss_scale)
        )
    text = json.dumps(_meta(job, plan), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    meta_at = sections.add(text)
    body = tensors + ops + sections.content
    header = Header(
        image_bytes=HEADER_BYTES + len(body),
        crc=0,
        image_hash=b"",
        base_hash=base_hash,
        tensor_count=len(graph.activations),
        op_count=len(graph.ops),
        input=graph.input,
        output=graph.output,
        tensors=tensors_at,
        ops=ops_at,
        training=training_at,
        features=features_at,
        profile=profile_at,
        meta=meta_at,
        meta_bytes=len(text),
        arena_bytes=plan.arena.size,
        adapter_bytes=plan.adapter_bytes,
        state_bytes=plan.state_bytes,
    )
    return seal(header, body)


def _tensor(graph: Graph, plan: Plan, index: int) -> bytes:
    t, gradient = graph.activations[index], plan.gradients[index]
    entry = TensorEntry(
        data=plan.data_offset(index),
        height=t.height,
        width=t.width,
        channels=t.channels,
        zero_point=t.zero_point,
        mantissa_bits=gradient.mantissa_bits if gradient else 0,
        scale=float(t.scale),
        gradient=plan.gradient_offset(index),
        mask=plan.mask_offset(index),
    )
    return entry.pack()


def _training(plan: Plan, sections: SectionWriter) -> bytes:
    training = plan.training
    assert training is not None
    loss = training.loss
    reruns = b"".join(struct.pack("<HH", *pair) for pair in plan.reruns)
    section = TrainingSection(
        loss=loss.kind.number,
        method=training.method.number,
        first_op=training.first_op,
        last_op=training.last_op,
        tensor=loss.tensor,
        a=loss.a,
        b=loss.b,
        exponentials=sections.add(exponentials(loss)) if loss.kind is Loss.classification else 0,
        gradient_unit=loss.unit,
        classes=loss.classes,
        optimiser=int(training.adam),
        reruns=sections.add(reruns) if reruns else 0,
        rerun_count=len(plan.reruns),
    )
    return section.pack()


def exponentials(loss: LossPlan) -> bytes:
    """round(2^23 * exp(-s * i)) for differences i of the int8 logits."""
    values = np.rint(2.0**23 * np.exp(-loss.logit_scale * np.arange(256, dtype=np.float64)))
    content: bytes = values.astype("<u4").tobytes()
    return content


__all__ = [
    "NONE",
    "CompileOptions",
    "Loss",
    "Method",
    "compile",
    "compile_with",
    "compile_within",
    "exponentials",
    "read_file",
    "trainable",
]
