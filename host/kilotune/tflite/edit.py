"""Edits a `.tflite` without knowing its whole schema.

Offsets in a flatbuffer are relative and point forward. So new tables can be put before the old file and point into
it, and everything that is not edited stays the same byte for byte, whatever a newer TensorFlow wrote there.
Replacements of the same size are written in place.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from kilotune.errors import KilotuneError
from kilotune.tflite import model as tflite_model

_ALIGNMENT = 64  # the old file moves by a multiple of this, which preserves every alignment in it
_INT32 = 2  # TensorType


@dataclass(slots=True)
class _NewTensor:
    """A copy of tensor `like`, or a new bias (`like` = -1), with its own buffer."""

    like: int
    buffer: int
    name: str = ""
    shape: tuple[int, ...] = ()
    scales: tuple[float, ...] = ()


# Slots of the tables that are rebuilt, by schema.fbs; those not named here hold offsets.
_MODEL_SLOTS, _MODEL_SCALARS = 8, {0: "I"}  # version
_SUBGRAPH_SLOTS, _SUBGRAPH_SCALARS = 6, {5: "i"}  # debug metadata index
# Opcode index, type of options, format of custom options, their large offset and size, type of options 2.
_OPERATOR_SLOTS, _OPERATOR_SCALARS = 13, {0: "I", 3: "B", 6: "b", 9: "Q", 10: "Q", 11: "B"}
_TENSOR_SLOTS, _TENSOR_SCALARS = 10, {1: "b", 2: "I", 5: "?", 8: "?"}  # type, buffer, is variable, has rank


class Edit:
    """Collects changes to the bytes of a verified `.tflite`; `finish` returns the new file."""

    def __init__(self, content: bytes) -> None:
        import tflite

        self._model_before = tflite_model.read(content)  # refuses damaged files
        self._old = bytearray(content)
        self._model: Any = tflite.Model.GetRootAsModel(self._old, 0)
        self._graph: Any = self._model.Subgraphs(0)
        self._new_buffers: list[bytes] = []
        self._new_tensors: list[_NewTensor] = []
        self._inputs: dict[int, list[int]] = {}  # operator -> its new inputs
        self._metadata: dict[str, int] = {}  # name -> buffer

    def set_metadata(self, name: str, data: bytes) -> None:
        """Adds the entry, or replaces it."""
        for i in range(self._model.MetadataLength()):
            entry = self._model.Metadata(i)
            if entry.Name() == name.encode() and self._overwrite(entry.Buffer(), data):
                return
        self._metadata[name] = self._add_buffer(data)

    def set_constant(self, operator: int, position: int, data: bytes) -> None:
        """Gives input `position` of `operator`, and no other user of it, `data` of the same size."""
        index = self._current_inputs(operator)[position]
        tensor = self._model_before.tensors[index]
        if len(data) != tensor.data.size:
            raise ValueError("a constant must keep its size")
        tensor_users = sum(list(op.inputs).count(index) for op in self._model_before.operators)
        boundary = index in self._model_before.inputs or index in self._model_before.outputs
        buffer_users = sum(t.buffer == tensor.buffer for t in self._model_before.tensors)
        alone = tensor_users == 1 and buffer_users == 1 and not boundary
        if alone and self._overwrite(tensor.buffer, data):
            return
        self._new_tensors.append(_NewTensor(like=index, buffer=self._add_buffer(data)))
        self._replace_input(operator, position)

    def add_bias(self, operator: int, position: int, data: bytes, *, name: str, scales: tuple[float, ...]) -> None:
        """Adds an int32 bias to `operator`."""
        self._new_tensors.append(
            _NewTensor(like=-1, buffer=self._add_buffer(data), name=name, shape=(len(data) // 4,), scales=scales)
        )
        self._replace_input(operator, position)

    def _current_inputs(self, operator: int) -> list[int]:
        return self._inputs.get(operator, list(self._model_before.operators[operator].inputs))

    def _replace_input(self, operator: int, position: int) -> None:
        inputs = self._current_inputs(operator)
        inputs += [-1] * (position + 1 - len(inputs))
        inputs[position] = len(self._model_before.tensors) + len(self._new_tensors) - 1
        self._inputs[operator] = inputs

    def _add_buffer(self, data: bytes) -> int:
        self._new_buffers.append(data)
        return int(self._model.BuffersLength()) + len(self._new_buffers) - 1

    def _overwrite(self, buffer: int, data: bytes) -> bool:
        """Overwrites in place if nothing else uses the bytes."""
        import numpy as np

        table = self._model.Buffers(buffer)
        if table.DataLength() != len(data) or len(data) == 0:
            return False
        position = table._tab.Vector(table._tab.Offset(4))
        for other in range(self._model.BuffersLength()):
            if other != buffer and self._model.Buffers(other).DataLength():
                tab = self._model.Buffers(other)._tab
                start = tab.Vector(tab.Offset(4))
                if start < position + len(data) and position < start + self._model.Buffers(other).DataLength():
                    return False
        self._old[position : position + len(data)] = np.frombuffer(data, np.uint8).tobytes()
        return True

    def finish(self) -> bytes:
        """The edited file, read once more to be sure."""
        if not (self._new_buffers or self._inputs or self._metadata):
            return bytes(self._old)
        try:
            content = _Rebuild(self).build()
        except tflite_model.DAMAGE as error:
            raise tflite_model.damaged(error) from error
        tflite_model.read(content)
        return content


class _Rebuild:
    """Writes new tables before the old file."""

    def __init__(self, edit: Edit) -> None:
        import flatbuffers

        self._edit = edit
        self._size = -(-len(edit._old) // _ALIGNMENT) * _ALIGNMENT
        builder: Any = flatbuffers.Builder(self._size + 4096)
        builder.Prep(_ALIGNMENT, self._size)
        builder.head -= self._size
        builder.Bytes[builder.head : builder.head + self._size] = bytes(edit._old).ljust(self._size, b"\0")
        self._b = builder

    def _at(self, position: int) -> int:
        """Builder offset (from the end) of something at `position` of the old file."""
        return self._size - position

    def build(self) -> bytes:
        subgraphs = self._offsets([self._subgraph()])
        buffers = self._buffers()
        metadata = self._metadata_entries() if self._edit._metadata else None
        replaced = {2: subgraphs, 4: buffers}
        if metadata is not None:
            replaced[6] = metadata
        model = self._edit._model._tab
        root = self._table(model, _MODEL_SLOTS, replaced, _MODEL_SCALARS)
        self._b.Finish(root, b"TFL3")
        return bytes(self._b.Output())

    def _table(
        self,
        tab: Any,
        slots: int,
        replaced: dict[int, int],
        scalars: dict[int, str],
        values: dict[int, int] | None = None,
    ) -> int:
        """A copy of a table with some offsets (`replaced`) and values replaced; `scalars`: slots of values."""
        values = values or {}
        vtable = tab.Pos - struct.unpack_from("<i", tab.Bytes, tab.Pos)[0]
        present = (struct.unpack_from("<H", tab.Bytes, vtable)[0] - 4) // 2
        if present > slots:
            raise KilotuneError(
                "unsupported_model",
                "the model was written with a schema too new to be edited",
                "update the tools, or convert the model with an older TensorFlow",
            )
        self._b.StartObject(slots)
        for slot in range(slots):
            at = tab.Offset(4 + 2 * slot)
            if slot in replaced:
                self._b.PrependUOffsetTRelativeSlot(slot, replaced[slot], 0)
            elif slot in values:
                self._scalar(slot, scalars[slot], values[slot])
            elif at and slot in scalars:
                value = struct.unpack_from("<" + scalars[slot], tab.Bytes, tab.Pos + at)[0]
                self._scalar(slot, scalars[slot], value)
            elif at:
                self._b.PrependUOffsetTRelativeSlot(slot, self._at(tab.Indirect(tab.Pos + at)), 0)
        return int(self._b.EndObject())

    def _scalar(self, slot: int, kind: str, value: int) -> None:
        """Forced, even for a default value, so that the copy says what the original said."""
        b = self._b
        write = {
            "I": b.PrependUint32,
            "Q": b.PrependUint64,
            "i": b.PrependInt32,
            "b": b.PrependInt8,
            "B": b.PrependUint8,
            "?": b.PrependBool,
        }
        write[kind](value)
        b.Slot(slot)

    def _offsets(self, offsets: list[int]) -> int:
        self._b.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._b.PrependUOffsetTRelative(offset)
        return int(self._b.EndVector())

    def _ints(self, values: list[int]) -> int:
        self._b.StartVector(4, len(values), 4)
        for value in reversed(values):
            self._b.PrependInt32(value)
        return int(self._b.EndVector())

    def _buffers(self) -> int:
        model, edit = self._edit._model, self._edit
        offsets = [self._at(model.Buffers(i)._tab.Pos) for i in range(model.BuffersLength())]
        for data in edit._new_buffers:
            self._b.StartVector(1, len(data), 16)
            self._b.head -= len(data)
            self._b.Bytes[self._b.head : self._b.head + len(data)] = data
            vector = self._b.EndVector()
            self._b.StartObject(3)
            self._b.PrependUOffsetTRelativeSlot(0, vector, 0)
            offsets.append(int(self._b.EndObject()))
        return self._offsets(offsets)

    def _metadata_entries(self) -> int:
        model, edit = self._edit._model, self._edit
        offsets = []
        for i in range(model.MetadataLength()):
            entry = model.Metadata(i)
            if (entry.Name() or b"").decode("utf-8", "replace") not in edit._metadata:
                offsets.append(self._at(entry._tab.Pos))
        for name, buffer in edit._metadata.items():
            text = self._b.CreateString(name)
            self._b.StartObject(2)
            self._b.PrependUOffsetTRelativeSlot(0, text, 0)
            self._b.PrependUint32Slot(1, buffer, 0)
            offsets.append(int(self._b.EndObject()))
        return self._offsets(offsets)

    def _subgraph(self) -> int:
        graph, edit = self._edit._graph, self._edit
        tensors = [self._at(graph.Tensors(i)._tab.Pos) for i in range(graph.TensorsLength())]
        tensors += [self._tensor(t) for t in edit._new_tensors]
        operators = []
        for i in range(graph.OperatorsLength()):
            tab = graph.Operators(i)._tab
            if i not in edit._inputs:
                operators.append(self._at(tab.Pos))
                continue
            inputs = self._ints(edit._inputs[i])
            operators.append(self._table(tab, _OPERATOR_SLOTS, {1: inputs}, _OPERATOR_SCALARS))
        replaced = {0: self._offsets(tensors), 3: self._offsets(operators)}
        return self._table(graph._tab, _SUBGRAPH_SLOTS, replaced, _SUBGRAPH_SCALARS)

    def _tensor(self, new: _NewTensor) -> int:
        if new.like >= 0:
            tab = self._edit._graph.Tensors(new.like)._tab
            return self._table(tab, _TENSOR_SLOTS, {}, _TENSOR_SCALARS, {2: new.buffer})
        shape, name = self._ints(list(new.shape)), self._b.CreateString(new.name)
        quantisation = self._quantisation(new.scales)
        self._b.StartObject(_TENSOR_SLOTS)
        self._b.PrependUOffsetTRelativeSlot(0, shape, 0)
        self._b.PrependInt8Slot(1, _INT32, 0)
        self._b.PrependUint32Slot(2, new.buffer, 0)
        self._b.PrependUOffsetTRelativeSlot(3, name, 0)
        self._b.PrependUOffsetTRelativeSlot(4, quantisation, 0)
        return int(self._b.EndObject())

    def _quantisation(self, scales: tuple[float, ...]) -> int:
        b = self._b
        b.StartVector(8, len(scales), 8)
        for _ in scales:
            b.PrependInt64(0)
        zero_points = b.EndVector()
        b.StartVector(4, len(scales), 4)
        for scale in reversed(scales):
            b.PrependFloat32(scale)
        scale_vector = b.EndVector()
        b.StartObject(7)  # min, max, scale, zero_point, details type and table, quantized_dimension
        b.PrependUOffsetTRelativeSlot(2, scale_vector, 0)
        b.PrependUOffsetTRelativeSlot(3, zero_points, 0)
        return int(b.EndObject())
