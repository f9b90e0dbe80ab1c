"""Kilotune's own entry in a `.tflite`'s metadata: JSON with features, profile, loss and calibration."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from kilotune.errors import KilotuneError
from kilotune.image.base_profile import Profile
from kilotune.image.features import FeatureConfig, decode_json
from kilotune.terms import Loss, known, words
from kilotune.tflite import edit as flatbuffer_edit
from kilotune.tflite import model as tflite_model
from kilotune.tflite.model import TfliteModel

NAME = "kilotune"


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """Everything is optional. `calibration`: what a merged model keeps of its adapter, as JSON."""

    features: FeatureConfig | None = None
    profile: Profile | None = None
    loss: Loss | None = None
    calibration: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        result: dict[str, Any] = {}
        if self.features is not None:
            result["features"] = self.features.to_json()
        if self.profile is not None:
            result["profile"] = self.profile.to_json()
        if self.loss is not None:
            result["loss"] = str(self.loss)
        if self.calibration is not None:
            result["calibration"] = self.calibration
        return result


def from_model(model: TfliteModel) -> ModelMetadata:
    """The model's own metadata; empty if it has none."""
    content = model.metadata_entry(NAME)
    if content is None:
        return ModelMetadata()
    data = decode_json(content, "the model's kilotune metadata")
    if not isinstance(data, dict):
        raise KilotuneError("bad_model", "the model's kilotune metadata is not a JSON object", "create the model again")
    word, calibration = data.get("loss"), data.get("calibration")
    loss = known(Loss, word)
    if word is not None and loss is None:
        raise KilotuneError(
            "bad_model",
            f"the model's metadata names an unknown loss {word!r:.40}; known are {', '.join(words(Loss))}",
            "use the tools of the release that made the model",
        )
    if calibration is not None and not isinstance(calibration, dict):
        raise KilotuneError("bad_model", "the model's calibration is not a JSON object", "merge the model again")
    return ModelMetadata(
        features=FeatureConfig.from_json(data["features"]) if data.get("features") else None,
        profile=Profile.from_json(data["profile"]) if data.get("profile") else None,
        loss=loss,
        calibration=calibration,
    )


def read(content: bytes) -> ModelMetadata:
    """The kilotune metadata of a `.tflite` file's bytes."""
    return from_model(tflite_model.read(content))


def write(content: bytes, metadata: ModelMetadata) -> bytes:
    """`content` with its kilotune metadata replaced; everything else stays as it is."""
    text = json.dumps(metadata.to_json(), sort_keys=True, separators=(",", ":"), allow_nan=False)
    edit = flatbuffer_edit.Edit(content)
    edit.set_metadata(NAME, text.encode())
    return edit.finish()
