"""The one list of error codes, which programs may rely on; with those of the device it is docs/ERRORS.md.

A device's refusal has the name of its status (firmware/kernel/status.def) as its code, and exit code 4. Where these
tools tell the same before they ask, the status's own words are in place of an empty cause here.
"""

from __future__ import annotations

from dataclasses import dataclass

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_DEVICE = 3
EXIT_REFUSED = 4
EXIT_MISMATCH = 5


@dataclass(frozen=True, slots=True)
class ErrorCode:
    code: str
    exit_code: int  # of a command that ends with it
    cause: str = ""
    remedy: str = ""


_LIST = (
    # --- what was asked for
    ErrorCode("bad_argument", EXIT_USAGE, "an option or argument is wrong, is missing, or does not go with another",
              "the message says what is possible; see the command's --help"),
    ErrorCode("chip_locked", EXIT_REFUSED, "the chip's debug port is locked: a probe opens it only by erasing it",
              "pull what it has learned first; --erase-locked then erases the whole chip"),
    ErrorCode("no_emulator", EXIT_USAGE, "the emulator does not have this board, or not with this sensor",
              "choose another target: docs/BOARDS.md"),
    ErrorCode("no_sensor_bus", EXIT_USAGE, "the board has no such bus for a sensor", "the message names others"),
    ErrorCode("unknown_board", EXIT_USAGE, "there is no board of that name", "the message lists them"),
    ErrorCode("unknown_sensor", EXIT_USAGE, "there is no driver for that sensor", "the message lists them"),
    # --- the device, and the way to it
    ErrorCode("ambiguous_device", EXIT_NO_DEVICE, "several boards are connected", "choose one with --port"),
    ErrorCode("busy_target", EXIT_NO_DEVICE, "another command runs a device on the same flash file",
              "wait for it, end it, or give this one a flash of its own with --state"),
    ErrorCode("no_device", EXIT_NO_DEVICE, "no board was found, or what was named cannot be opened",
              "`kilotune ports` lists what there is"),
    ErrorCode("port_busy", EXIT_NO_DEVICE, "another program uses the serial port", "close it and try again"),
    ErrorCode("port_denied", EXIT_NO_DEVICE, "you may not use the serial port",
              "install the udev rule host/60-kilotune.rules, or join the group that owns the port"),
    ErrorCode("device_lost", EXIT_FAILED, "the connection broke",
              "connect the device again; what was committed is kept"),
    ErrorCode("timeout", EXIT_FAILED, "the device did not answer, learn or take bytes in time",
              "check the cable and that the firmware runs; a longer --timeout helps slow devices"),
    ErrorCode("bad_message", EXIT_FAILED, "the device sent what cannot be decoded",
              "use the firmware and the tools of one release"),
    ErrorCode("bad_version", EXIT_FAILED, "the device speaks another version of the protocol",
              "use the firmware and the tools of one release"),
    ErrorCode("unknown_status", EXIT_REFUSED, "the device refused for a reason that these tools do not know",
              "use the firmware and the tools of one release"),
    ErrorCode("interrupted", EXIT_FAILED, "a signal ended the command (the exit code is 128 and the signal's number), "
              "or training on the device was ended", "begin again"),
    ErrorCode("lost_results", EXIT_FAILED, "results of windows were lost on the line",
              "is it too slow or unreliable? Try again"),
    ErrorCode("other_image", EXIT_MISMATCH, "the device runs another model image than the one given",
              "give the image that it was flashed with, or flash this one"),
    ErrorCode("no_image", EXIT_FAILED, "this needs the model image, and none was given",
              "give the .ktm file that the device was flashed with: --image"),
    # --- refused as the device would, before it is asked
    ErrorCode("busy", EXIT_FAILED, "the adapter keeps changing while it is read", "end the learn phase, then pull"),
    ErrorCode("no_features", EXIT_REFUSED),
    ErrorCode("no_model", EXIT_FAILED, "the target has no model image", "give one with --image"),
    ErrorCode("not_trainable", EXIT_FAILED),
    ErrorCode("slowed", EXIT_REFUSED, "after too many wrong keys the device listens to none, longer than the timeout",
              "leave it powered and try again later, or give a longer --timeout"),
    ErrorCode("too_few_windows", EXIT_FAILED, "the recordings have too few windows to learn from or to test on",
              "give longer ones"),
    ErrorCode("unavailable", EXIT_FAILED, "this target, model or computer cannot do that", "the message says what can"),
    ErrorCode("wrong_axes", EXIT_REFUSED),
    ErrorCode("wrong_rate", EXIT_REFUSED, "the samples' rate is impossible, or not the model's",
              "give the true rate with --rate, or use a model made for it"),
    ErrorCode("wrong_state", EXIT_FAILED),
    # --- keys and what they vouch for
    ErrorCode("already_locked", EXIT_FAILED, "the device has a key", "`kilotune provision --change` or --remove"),
    ErrorCode("bad_key_file", EXIT_FAILED, "the key file cannot be read, is none, or others may read it",
              "the message says which; name another with --key-file"),
    ErrorCode("bad_tag", EXIT_MISMATCH, "the adapter is not what its device vouched for", "pull it again"),
    ErrorCode("key_exists", EXIT_FAILED, "there is a key file for a device of this name already",
              "name a file with --key-file, or move that one"),
    ErrorCode("locked", EXIT_REFUSED),
    ErrorCode("no_key", EXIT_REFUSED),
    ErrorCode("not_verified", EXIT_MISMATCH, "--require-tag, and nothing vouches for the adapter",
              "pull it from a provisioned device, where its key is"),
    ErrorCode("wrong_key", EXIT_REFUSED, "the device has another key than the file", "name the right one: --key-file"),
    # --- recordings
    ErrorCode("bad_file", EXIT_FAILED, "the recording cannot be read, or is of a type that is not read",
              "the message says what was found"),
    ErrorCode("bad_samples", EXIT_FAILED, "values are no numbers, do not fit, or may be g or counts",
              "cut the recording there, or say their --unit or --scale"),
    ErrorCode("bad_shape", EXIT_FAILED, "an array has another type or shape than the model takes", "reshape it"),
    ErrorCode("empty", EXIT_FAILED, "the recording holds no samples", "check that it is complete"),
    ErrorCode("gap", EXIT_FAILED, "the time column says that samples are missing",
              "cut the recording there, or state with --rate that it has no gap"),
    ErrorCode("no_column", EXIT_FAILED, "the file has no such column or array", "choose with --columns"),
    ErrorCode("no_rate", EXIT_FAILED, "the recording does not say its sampling rate", "give it with --rate"),
    ErrorCode("not_finite", EXIT_FAILED, "samples are NaN or infinite", "cut the recording there"),
    ErrorCode("too_large", EXIT_FAILED, "it does not fit: a file the memory, a model the board or the budget",
              "the message says what would"),
    ErrorCode("too_little_data", EXIT_FAILED, "too few calibration samples to measure on", "give more"),
    # --- models, images and adapters
    ErrorCode("bad_adapter", EXIT_FAILED, "the adapter's files are damaged or do not go together",
              "pull it again, or copy the directory again"),
    ErrorCode("bad_crc", EXIT_FAILED, "the adapter that was pulled has a wrong checksum", "pull it again"),
    ErrorCode("bad_features", EXIT_FAILED, "the features do not go with the model or the profile", "change either"),
    ErrorCode("bad_image", EXIT_FAILED, "the model image is damaged, or of another release", "compile it again"),
    ErrorCode("bad_json", EXIT_FAILED, "a file or a model's metadata is not valid JSON", "make or transfer it again"),
    ErrorCode("bad_model", EXIT_FAILED, "the .tflite is damaged, or its metadata are", "convert or merge it again"),
    ErrorCode("bad_profile", EXIT_FAILED, "the profile's numbers are out of range", "make it again"),
    ErrorCode("shared_tensor", EXIT_FAILED, "two operators share a tensor that both would train",
              "train the last layers only, or use separate layers"),
    ErrorCode("unsupported_model", EXIT_FAILED, "the model has what cannot be run or trained",
              "the message names the operator and what is possible"),
    ErrorCode("wrong_base", EXIT_MISMATCH, "the adapter belongs to another model or image",
              "use it with what it was trained on"),
    # --- files
    ErrorCode("bad_state", EXIT_FAILED, "the folder or file of an emulated device's flash cannot be used",
              "name another with --state"),
    ErrorCode("cannot_write", EXIT_FAILED, "an output cannot be written", "choose another place"),
    ErrorCode("no_file", EXIT_FAILED, "there is no such file, or it cannot be read", "check its name and folder"),
    ErrorCode("not_empty", EXIT_FAILED, "the folder to write is not empty", "name a new one"),
    ErrorCode("os_error", EXIT_FAILED, "the operating system refused a file", "check its name, folder and your rights"),
    # --- building, flashing, emulating
    ErrorCode("ambiguous_drive", EXIT_FAILED, "several boards show a drive to flash to", "choose one with --drive"),
    ErrorCode("ambiguous_probe", EXIT_FAILED, "several debug probes are connected", "choose one with --probe"),
    ErrorCode("bad_board", EXIT_FAILED, "a board.json does not describe a board", "compare it with another's"),
    ErrorCode("bad_firmware", EXIT_FAILED, "a firmware file cannot be read", "build it again"),
    ErrorCode("build_failed", EXIT_FAILED, "the firmware did not build, or not in time", "see the log that is named"),
    ErrorCode("cannot_start", EXIT_FAILED, "an emulator or process did not start", "see the log that is named"),
    ErrorCode("flash_failed", EXIT_FAILED, "the board did not take the firmware", "check cable, power and drive"),
    ErrorCode("missing", EXIT_FAILED, "`kilotune doctor` found that something is missing without which nothing works",
              "see its list"),
    ErrorCode("missing_package", EXIT_FAILED, "a Python package is not installed", "the message says how to get it"),
    ErrorCode("missing_tool", EXIT_FAILED, "a compiler or emulator is not installed", "the message says how to get it"),
    ErrorCode("no_drive", EXIT_FAILED, "no drive of the board is mounted", "hold BOOTSEL while you plug it in"),
    ErrorCode("no_probe", EXIT_FAILED, "no debug probe was found", "plug the board in with a data cable"),
    ErrorCode("no_source", EXIT_FAILED, "the source of firmware or kernel was not found",
              "run this in the project's folder, or name that in KILOTUNE_SOURCE"),
    ErrorCode("no_tensorflow", EXIT_FAILED, "quantising needs TensorFlow", "pip install kilotune[tensorflow]"),
    ErrorCode("no_twin", EXIT_FAILED, "the twin was not compiled", "install the package with a C++ compiler there"),
    ErrorCode("overlap", EXIT_FAILED, "two parts of the firmware claim one address", "build it again"),
    # --- the command itself
    ErrorCode("internal", EXIT_FAILED, "a bug in these tools", "report it with what was printed"),
    ErrorCode("mismatch", EXIT_MISMATCH, "what the demo holds against each other differs", "see its report"),
    ErrorCode("no_memory", EXIT_FAILED, "this computer has too little memory", "give less at a time: --seconds"),
)  # fmt: skip

CODES = {entry.code: entry for entry in _LIST}
