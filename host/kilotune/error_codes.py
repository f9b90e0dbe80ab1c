"""The only list of error codes. Programs may rely on it. docs/ERRORS.md shows it together with the device's codes.

If a device refuses a request, the error's code is the name of its status (firmware/kernel/status.def), and the exit
code is 4. Entries with an empty cause repeat a status that these tools report before they ask the device; its own text
is then the cause.
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
              "the message says what is possible; see also the command's --help"),
    ErrorCode("chip_locked", EXIT_REFUSED,
              "the chip's debug port is locked: a probe can unlock it only by erasing the chip",
              "pull what the device has learned first, then use --erase-locked, which erases the whole chip"),
    ErrorCode("no_emulator", EXIT_USAGE, "the emulator does not know this board, or not with this sensor",
              "choose another target: docs/BOARDS.md"),
    ErrorCode("no_sensor_bus", EXIT_USAGE, "the board has no such bus for a sensor",
              "use one of those that the message names"),
    ErrorCode("unknown_board", EXIT_USAGE, "there is no board of that name", "use one of those that the message lists"),
    ErrorCode("unknown_sensor", EXIT_USAGE, "there is no driver for that sensor",
              "use one of those that the message lists"),
    # --- the device, and the way to it
    ErrorCode("ambiguous_device", EXIT_NO_DEVICE, "several boards are connected", "choose one with --port"),
    ErrorCode("busy_target", EXIT_NO_DEVICE, "another command runs a device on the same flash file",
              "wait for it, end it, or use another folder with --state"),
    ErrorCode("no_device", EXIT_NO_DEVICE, "no board was found, or the named port cannot be opened",
              "connect the board; `kilotune ports` lists the ports of this computer"),
    ErrorCode("port_busy", EXIT_NO_DEVICE, "another program uses the serial port", "close it and try again"),
    ErrorCode("port_denied", EXIT_NO_DEVICE, "you may not use the serial port",
              "install the udev rule host/60-kilotune.rules, or join the group that owns the port"),
    ErrorCode("device_lost", EXIT_FAILED, "the connection broke",
              "reconnect the device; committed learning is kept"),
    ErrorCode("timeout", EXIT_FAILED, "the device did not answer, make progress or accept bytes in time",
              "check the cable and that the firmware runs; give slow devices a longer --timeout"),
    ErrorCode("bad_message", EXIT_FAILED, "the device sent a message that cannot be decoded",
              "use firmware and tools of the same release"),
    ErrorCode("bad_version", EXIT_FAILED, "the device speaks another version of the protocol",
              "use firmware and tools of the same release"),
    ErrorCode("wrong_version", EXIT_FAILED, "the emulator is not the version that runs the boards",
              "install the version that the message names"),
    ErrorCode("unknown_status", EXIT_REFUSED, "the device refused for a reason that these tools do not know",
              "use firmware and tools of the same release"),
    ErrorCode("interrupted", EXIT_FAILED,
              "a signal ended the command (the exit code is then 128 plus the signal's number), "
              "or training on the device was stopped", "start again"),
    ErrorCode("lost_results", EXIT_FAILED, "results of windows were lost on the line",
              "check whether the line is too slow or unreliable, and try again"),
    ErrorCode("other_image", EXIT_MISMATCH, "the device runs another model image than the one given",
              "give the image that the device was flashed with, or flash this one"),
    ErrorCode("no_image", EXIT_FAILED, "this needs the model image, and none was given",
              "give the .ktm file that the device was flashed with, with --image"),
    # --- refused as the device would, before it is asked
    ErrorCode("busy", EXIT_FAILED, "the adapter keeps changing while it is read", "end the learn phase, then pull"),
    ErrorCode("no_features", EXIT_REFUSED),
    ErrorCode("no_model", EXIT_FAILED, "the target has no model image", "give one with --image"),
    ErrorCode("not_trainable", EXIT_FAILED),
    ErrorCode("slowed", EXIT_REFUSED, "after too many wrong keys, the device accepts none for longer than the timeout",
              "leave it powered and try again later, or give a longer --timeout"),
    ErrorCode("too_few_windows", EXIT_FAILED, "the recordings have too few windows to learn from or to test on",
              "give longer ones"),
    ErrorCode("unavailable", EXIT_FAILED, "this target, model or computer cannot do that",
              "use one that can, as the message says"),
    ErrorCode("wrong_axes", EXIT_REFUSED),
    ErrorCode("wrong_rate", EXIT_REFUSED, "the sampling rate is impossible, or not the model's",
              "give the true rate with --rate, or use a model made for it"),
    ErrorCode("wrong_state", EXIT_FAILED),
    # --- keys and tags
    ErrorCode("already_locked", EXIT_FAILED, "the device already has a key",
              "use `kilotune provision --change` or `--remove`"),
    ErrorCode("bad_key_file", EXIT_FAILED, "the key file cannot be read, holds no key, or can be read by others",
              "fix what the message names, or give another file with --key-file"),
    ErrorCode("bad_tag", EXIT_MISMATCH, "the adapter is not the one that its device tagged", "pull it again"),
    ErrorCode("lock_lost", EXIT_MISMATCH, "the device claims to have no key, but this computer has one for it",
              "check the line; --insecure if you know that the device was erased, unlocked or replaced"),
    ErrorCode("locked", EXIT_REFUSED),
    ErrorCode("no_key", EXIT_REFUSED),
    ErrorCode("not_verified", EXIT_MISMATCH, "--require-tag was given, but the adapter's tag cannot be verified",
              "pull the adapter from a provisioned device, on a computer that has its key"),
    ErrorCode("wrong_key", EXIT_REFUSED, "the key in the file is not the device's",
              "name the right file with --key-file"),
    # --- recordings
    ErrorCode("ambiguous", EXIT_FAILED, "the recording can be read in two ways, and nothing in it says which",
              "the message names the option that decides"),
    ErrorCode("bad_file", EXIT_FAILED, "the recording cannot be read, or is of a type that is not read",
              "the message says what was found"),
    ErrorCode("bad_samples", EXIT_FAILED, "values are no numbers, do not fit, or may be g or counts",
              "cut the recording there, or say their --unit or --scale"),
    ErrorCode("bad_shape", EXIT_FAILED, "an array does not have the type or shape that the model takes",
              "convert or reshape it"),
    ErrorCode("empty", EXIT_FAILED, "the recording holds no samples", "check that it is complete"),
    ErrorCode("gap", EXIT_FAILED, "samples are missing in a recording that is to be played without a gap",
              "cut a part out of it, with --start and --seconds"),
    ErrorCode("no_column", EXIT_FAILED, "the file has no such column or array", "choose with --columns"),
    ErrorCode("no_rate", EXIT_FAILED, "the recording does not say its sampling rate", "give it with --rate"),
    ErrorCode("not_finite", EXIT_FAILED, "samples are NaN or infinite", "cut the recording there"),
    ErrorCode("too_large", EXIT_FAILED, "it does not fit: a file the memory, a model the board or the budget",
              "the message says what would"),
    ErrorCode("too_little_data", EXIT_FAILED, "there are too few calibration samples to measure on", "give more"),
    # --- models, images and adapters
    ErrorCode("bad_adapter", EXIT_FAILED, "the adapter's files are damaged or do not belong together",
              "pull it again, or copy the folder again"),
    ErrorCode("bad_crc", EXIT_FAILED, "the pulled adapter has a wrong checksum", "pull it again"),
    ErrorCode("bad_features", EXIT_FAILED, "the features do not fit the model or the profile", "change one of them"),
    ErrorCode("bad_image", EXIT_FAILED, "the model image is damaged, or from another release", "compile it again"),
    ErrorCode("bad_json", EXIT_FAILED, "a file or a model's metadata is not valid JSON", "create or copy it again"),
    ErrorCode("bad_model", EXIT_FAILED, "the .tflite or its metadata is damaged", "convert or merge it again"),
    ErrorCode("bad_profile", EXIT_FAILED, "the profile's numbers are out of range", "create the profile again"),
    ErrorCode("shared_tensor", EXIT_FAILED, "two operators share a tensor that both would train",
              "train the last layers only, or use separate layers"),
    ErrorCode("unsupported_model", EXIT_FAILED, "the model contains something that cannot be run or trained",
              "the message names the operator and says what is possible"),
    ErrorCode("wrong_base", EXIT_MISMATCH, "the adapter belongs to another model or image",
              "use it with the one that it was trained on"),
    # --- files
    ErrorCode("bad_state", EXIT_FAILED, "the folder or file for an emulated device's flash cannot be used",
              "name another folder with --state"),
    ErrorCode("cannot_write", EXIT_FAILED, "an output cannot be written",
              "choose another path, or check disk space and permissions"),
    ErrorCode("no_file", EXIT_FAILED, "there is no such file, or it cannot be read", "check its name and folder"),
    ErrorCode("not_empty", EXIT_FAILED, "the folder to write to is not empty", "name a new one"),
    ErrorCode("os_error", EXIT_FAILED, "the operating system refused access to a file",
              "check its name, its folder and your permissions"),
    # --- building, flashing, emulating
    ErrorCode("ambiguous_drive", EXIT_FAILED, "several boards show a boot drive", "choose one with --drive"),
    ErrorCode("ambiguous_probe", EXIT_FAILED, "several debug probes are connected", "choose one with --probe"),
    ErrorCode("bad_board", EXIT_FAILED, "a board.json does not describe a board", "compare it with another board's"),
    ErrorCode("bad_firmware", EXIT_FAILED, "a firmware file cannot be read", "build it again"),
    ErrorCode("build_failed", EXIT_FAILED, "the firmware did not build, or not in time",
              "see the log that the message names"),
    ErrorCode("cannot_start", EXIT_FAILED, "an emulator or process did not start",
              "see the log that the message names"),
    ErrorCode("flash_failed", EXIT_FAILED, "the board did not accept the firmware", "check cable, power and drive"),
    ErrorCode("missing", EXIT_FAILED, "`kilotune doctor` found that something essential is missing",
              "install what it lists"),
    ErrorCode("missing_package", EXIT_FAILED, "a Python package is not installed", "install it as the message says"),
    ErrorCode("missing_tool", EXIT_FAILED, "a compiler or emulator is not installed", "install it as the message says"),
    ErrorCode("no_drive", EXIT_FAILED, "the board's boot drive is not mounted",
              "hold BOOTSEL while you plug the board in"),
    ErrorCode("no_probe", EXIT_FAILED, "no debug probe was found", "plug the board in with a data cable"),
    ErrorCode("no_source", EXIT_FAILED, "the source of firmware or kernel was not found",
              "run this in the project's folder, or set KILOTUNE_SOURCE to it"),
    ErrorCode("no_converter", EXIT_FAILED, "a converter in an environment of its own is missing, or refused the model",
              "the message has its reason; install it by hand as the hint says, or convert the model yourself"),
    ErrorCode("no_tensorflow", EXIT_FAILED, "quantising needs TensorFlow, which is not installed",
              "pip install kilotune[tensorflow]"),
    ErrorCode("no_twin", EXIT_FAILED, "the twin was not compiled",
              "reinstall the package on a computer with a C++ compiler"),
    ErrorCode("overlap", EXIT_FAILED, "two parts of the firmware claim one address", "build it again"),
    # --- the command itself
    ErrorCode("internal", EXIT_FAILED, "a bug in these tools", "report it together with what was printed"),
    ErrorCode("mismatch", EXIT_MISMATCH, "results that must agree differ in the demo", "see its report"),
    ErrorCode("no_memory", EXIT_FAILED, "this computer has too little memory",
              "process less at a time, e.g. with --seconds"),
)  # fmt: skip

CODES = {entry.code: entry for entry in _LIST}
