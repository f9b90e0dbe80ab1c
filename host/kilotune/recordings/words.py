"""Words in the names of columns, in the languages that loggers and instruments write."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


TIME = _words("""
    time timestamp timestamps t ts zeit zeitstempel temps tiempo tempo tid tijd aika czas date datum datetime epoch
    elapsed clock uhrzeit seconds secs sec millis micros nanos milliseconds microseconds nanoseconds 時間 时间
""")
COUNTER = _words("""
    index idx i n no nr num number row sample samples sampleno samplenumber seq sequence counter count id unnamed
    frame packet lfd
""")
AXIS = _words("""
    acc accel acceleration accelerometer accelerations accelerometers beschleunigung acceleratie acceleracion
    aceleracion accelerazione accélération aceleração vib vibration vibrations vibracion schwingung ax ay az accx accy
    accz accelx accely accelz xacc yacc zacc xaccel yaccel zaccel acx acy acz gfx gfy gfz de fe ba axial radial
    tangential horizontal vertical hacc vacc 加速度
""")
AXIS_BEGINNINGS = ("accel", "accél", "beschl", "acel", "vibrat")
LETTERS = frozenset(("x", "y", "z"))
OTHER = _words("""
    gyro gyr gyroscope gx gy gz wx wy wz rotation rotationrate rot mag magn magnetometer mx my mz magnetic temp
    temperature temperatur pressure druck baro barometer humidity rpm speed drehzahl velocity geschwindigkeit tacho
    tach tachometer torque drehmoment current strom voltage spannung battery lat lon latitude longitude altitude
    heading roll pitch yaw quat quaternion qx qy qz qw label class target state status event marker flag accuracy
    sound mic microphone mikrofon audio force kraft displacement weg distance comment lux light proximity gravity
    steps heart hr ppg ecg emg power hall encoder angle winkel
""")
DERIVED = _words("absolute abs magnitude norm total resultant vector betrag atotal gftotal tgf")
