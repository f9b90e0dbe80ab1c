"""What to do about operators that the device has not got."""

from __future__ import annotations

_LOOPS = "convert LSTMs with TensorFlow 2.15, GRUs and LSTMs with `unroll=True`; loops and branches do not run"
_STATE = "state between inferences is not supported: export the model that sees a whole window at once"
_FLOAT = "leave what follows the last int8 layer to the program that reads the outputs"
_SEVERAL = "compute it of layers: a convolution, a dense layer, or a product of two tensors"
_REMEDIES = {
    **dict.fromkeys(("WHILE", "IF", "CALL", "UNIDIRECTIONAL_SEQUENCE_RNN", "BIDIRECTIONAL_SEQUENCE_LSTM"), _LOOPS),
    **dict.fromkeys(("CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"), _STATE),
    "SVDF": "use a convolution over a window instead: an SVDF keeps state between inferences",
    "BATCH_MATMUL": "multiply with constant weights (Dense), or pool over time instead of attention",
    "SQUARED_DIFFERENCE": "use BatchNormalization, which the converter folds into a layer, not LayerNormalization",
    "RESIZE_BILINEAR": "resize with interpolation nearest, or with a transposed convolution",
    "DIV": "divide by a constant, or multiply",
    **dict.fromkeys(("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"), "convert with batch size 1, by `kilotune quantize`"),
    **dict.fromkeys(
        ("GREATER", "LESS", "EQUAL", "SELECT", "SELECT_V2", "WHERE"), "use another activation, such as ELU"
    ),
    **dict.fromkeys(("TOPK_V2", "ARG_MIN", "ARG_MAX", "NON_MAX_SUPPRESSION_V5"), _FLOAT),
    **dict.fromkeys(("EINSUM", "GATHER_ND", "SCATTER_ND"), _SEVERAL),
}


def remedy(opcode: str) -> str:
    if opcode.startswith("CUSTOM"):
        return "convert the model without operators of other tools: " + (
            "this one is compiled for a chip's accelerator" if "edgetpu" in opcode or "ethos" in opcode else _FLOAT
        )
    return _REMEDIES.get(opcode, "replace the layer by one of the operators in README")
