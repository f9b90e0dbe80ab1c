"""Which sensors a firmware looks for, and on which bus."""

from __future__ import annotations

from dataclasses import dataclass

from kilotune.errors import KilotuneError
from kilotune.targets.boards import BUSES, Board, boards
from kilotune.targets.feed import CHIPS


@dataclass(frozen=True, slots=True)
class SensorChoice:
    """The choice of the caller; None: the drivers of the board's board.json, on I2C."""

    drivers: tuple[str, ...] | None = None  # in the order in which they are tried; (): none, and no code for them
    bus: str | None = None

    def drivers_on(self, board: Board) -> tuple[str, ...]:
        return board.sensors.drivers if self.drivers is None else self.drivers

    def bus_on(self, board: Board) -> str:
        """The bus; empty if there are no drivers, or the board has no such bus for a sensor."""
        bus = self.bus or BUSES[0]
        return bus if self.drivers_on(board) and bus in board.sensors.pins else ""

    def variant(self) -> str:
        """Part of a folder's name, different for each choice."""
        named = "" if self.drivers is None else "-" + ("+".join(self.drivers) or "no-sensors")
        return named + (f"-{self.bus}" if self.bus not in (None, BUSES[0]) else "")

    def cmake_options(self) -> list[str]:
        """CMake options, which also undo those of an earlier build in the same folder."""
        drivers = "-UKILOTUNE_SENSORS" if self.drivers is None else f"-DKILOTUNE_SENSORS={';'.join(self.drivers)}"
        return [drivers, f"-DKILOTUNE_SENSOR_BUS={self.bus or BUSES[0]}"]

    def require(self, board: Board) -> None:
        """Raises KilotuneError `unknown_sensor`, `no_sensor_bus` or `bad_argument` if the board does not support it."""
        drivers = self.drivers_on(board)
        if unknown := [name for name in drivers if name not in CHIPS]:
            raise KilotuneError(
                "unknown_sensor",
                f"there is no driver for the sensor '{unknown[0]}'",
                f"use one of {', '.join(CHIPS)}; separate several with commas",
            )
        if len(set(drivers)) < len(drivers):
            raise KilotuneError("bad_argument", f"{','.join(drivers)} names a sensor twice", "name each once")
        if drivers and not board.sensors.drivers and not board.sensors.pins:
            raise _no_bus(board, "a sensor", BUSES)
        if self.bus is None:
            return
        if self.bus not in board.sensors.pins:
            raise _no_bus(board, f"sensors on {self.bus}", (self.bus,))
        if not drivers:
            raise KilotuneError(
                "bad_argument",
                f"a bus was given for '{board.id}', but no sensor",
                f"name drivers with --sensors: {', '.join(CHIPS)}",
            )


AS_THE_BOARD = SensorChoice()


def _no_bus(board: Board, what: str, wanted: tuple[str, ...]) -> KilotuneError:
    able = [b.id for b in boards() if any(bus in b.sensors.pins for bus in wanted)]
    has = ", ".join(board.sensors.pins)
    return KilotuneError(
        "no_sensor_bus",
        f"the board '{board.id}' has no bus for {what}",
        (f"it has {has}; " if has else "") + f"boards that have one: {', '.join(able)}",
    )
