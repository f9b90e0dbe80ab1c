// An ADXL345 on SPI0 or I2C0, for rp2040js, at the pins of docs/BOARDS.md: by Analog Devices' data sheet,
// Rev. G. Identity, data rate, range, FIFO, interrupts, 4-wire SPI, I2C.
//
// What the chip does not allow ends the emulator: a mode other than 3, a clock above 5 MHz (SPI) or 400 kHz
// (I2C), and a FIFO read within 5 us of the one before.
const PINS = { interrupt: 6, select: 17 };
const LOW = 0; // a pin's state
const FASTEST_SPI_HZ = 5e6;
const FASTEST_I2C_HZ = 401e3; // whole cycles of 125 MHz come no nearer to 400 kHz
const I2C_ADDRESS = 0x53;
const BETWEEN_READS_NS = 5000;
const FULL_SCALE_G = 16; // of a frame's 32768
const R = {
  DEVID: 0x00, BW_RATE: 0x2c, POWER_CTL: 0x2d, INT_ENABLE: 0x2e, INT_MAP: 0x2f, INT_SOURCE: 0x30,
  DATA_FORMAT: 0x31, DATAX0: 0x32, DATAZ1: 0x37, FIFO_CTL: 0x38, FIFO_STATUS: 0x39,
};
const FIFO_FRAMES = 32;
const STREAM = 2;

class Adxl345 {
  // `frames`: int16 x y z, one after the other; after the last one nothing more is measured.
  constructor(frames) {
    this.frames = frames;
    this.next = 0;
    this.output = [0, 0, 0];
    this.selected = false; // on SPI
    this.command = null; // null: the next byte begins a transfer
    this.register = 0;
    this.tookFrame = false;
    this.readEndNs = -Infinity; // of a burst that took a frame
    this.reset();
  }

  // As its supply comes back: it answers, and measures nothing.
  reset() {
    this.registers = new Uint8Array(64);
    this.registers[R.BW_RATE] = 0x0a;
    this.fifo = [];
    this.overrun = false;
    this.ready = false;
    this.measuredNs = null; // null: it does not measure
  }

  get mode() { return this.registers[R.FIFO_CTL] >> 6; }
  get periodNs() { return 1e9 / (3200 / 2 ** (15 - (this.registers[R.BW_RATE] & 15))); }

  get sources() {
    const watermark = this.registers[R.FIFO_CTL] & 31;
    const reached = this.mode !== 0 && watermark !== 0 && this.fifo.length >= watermark;
    return (this.ready ? 0x80 : 0) | (reached ? 2 : 0) | (this.overrun ? 1 : 0);
  }

  get int1() {
    const raised = (this.sources & this.registers[R.INT_ENABLE] & ~this.registers[R.INT_MAP]) !== 0;
    return raised !== ((this.registers[R.DATA_FORMAT] & 0x20) !== 0);
  }

  // Measures all frames that are due.
  advance(nanos) {
    if ((this.registers[R.POWER_CTL] & 8) === 0) {
      this.measuredNs = null;
      return;
    }
    this.measuredNs ??= nanos;
    while (nanos - this.measuredNs >= this.periodNs && this.next < this.frames.length) {
      this.measuredNs += this.periodNs;
      this.measure(this.frames.subarray(this.next, this.next + 3));
      this.next += 3;
    }
  }

  measure(counts) {
    const frame = Array.from(counts, (value) => this.digit((value * FULL_SCALE_G) / 32768));
    if (this.mode === 0) {
      this.overrun ||= this.ready;
      this.output = frame;
    } else {
      this.fifo.push(frame);
      if (this.fifo.length > FIFO_FRAMES) {
        this.overrun = true;
        if (this.mode === STREAM) this.fifo.shift();
        else this.fifo.pop();
      }
    }
    this.ready = true;
  }

  digit(g) {
    const format = this.registers[R.DATA_FORMAT];
    const range = format & 3;
    const full = (format & 8) !== 0;
    const limit = 2 ** (full ? 9 + range : 9);
    let digit = Math.min(limit - 1, Math.max(-limit, Math.round((g / (2 << range)) * limit)));
    if ((this.registers[R.BW_RATE] & 15) >= 14 && (full || range === 0)) digit &= ~1;
    return digit;
  }

  // The end of a transfer on either bus.
  end(nanos) {
    if (this.tookFrame) this.readEndNs = nanos;
    this.command = null;
    this.tookFrame = false;
  }

  begin(byte) {
    this.command = byte;
    this.register = byte & 63;
  }

  // The register of the present byte; the next byte is for the one after it.
  count() {
    const register = this.register;
    this.register = (register + 1) & 63;
    return register;
  }

  // The byte sent on SPI while `byte` is received; `nanos` is when that begins.
  exchange(byte, nanos) {
    if (!this.selected) return 0xff; // the line is pulled up
    if (this.command === null) {
      this.begin(byte);
      return 0;
    }
    const register = (this.command & 0x40) !== 0 ? this.count() : this.register;
    if ((this.command & 0x80) !== 0) return this.read(register, nanos);
    this.write(register, byte);
    return 0;
  }

  read(register, nanos) {
    if ((register === R.DATAX0 || register === R.FIFO_STATUS) && nanos - this.readEndNs < BETWEEN_READS_NS) {
      throw new Error(`ADXL345: its FIFO is read ${nanos - this.readEndNs} ns after the frame before`);
    }
    if (register === R.DEVID) return 0xe5;
    if (register === R.INT_SOURCE) return this.sources;
    if (register === R.FIFO_STATUS) return this.fifo.length;
    if (register < R.DATAX0 || register > R.DATAZ1) return this.registers[register];
    if (register === R.DATAX0) {
      this.output = this.fifo.shift() ?? this.output;
      this.overrun = false;
      this.tookFrame = true;
    }
    this.ready = this.fifo.length > 0;
    const at = register - R.DATAX0;
    return (this.output[at >> 1] >> (8 * (at & 1))) & 0xff;
  }

  write(register, value) {
    const fixed = register === R.INT_SOURCE || (register >= R.DATAX0 && register <= R.DATAZ1);
    if (register < 0x1d || register > R.FIFO_CTL || fixed) return;
    this.registers[register] = value;
    if (this.mode === 0) this.fifo = [];
  }
}

function wireSpi(sensor, spi, select, clock) {
  let answer = 0;
  const byteEnds = clock.createAlarm(() => spi.completeTransmit(answer));
  spi.onTransmit = (byte) => {
    const clockHz = spi.clockFrequency;
    if ((spi.control0 & 0xcf) !== 0xc7) throw new Error(`SPI0 is set to ${spi.control0.toString(16)}: not mode 3`);
    if (!(clockHz > 0 && clockHz <= FASTEST_SPI_HZ)) throw new Error(`ADXL345: its clock is ${clockHz} Hz`);
    sensor.advance(clock.nanos);
    answer = sensor.exchange(byte, clock.nanos);
    byteEnds.schedule(8e9 / clockHz);
  };
  select.addListener((state) => {
    sensor.end(clock.nanos);
    sensor.selected = state === LOW;
  });
}

function wireI2c(sensor, i2c, coreHz, clock) {
  let then = () => {};
  const byteEnds = clock.createAlarm(() => then());
  const takes = (next) => {
    const clockHz = coreHz / (i2c.sclLowPeriod + i2c.sclHighPeriod);
    if (clockHz > FASTEST_I2C_HZ) throw new Error(`ADXL345: its clock is ${clockHz} Hz`);
    then = next;
    byteEnds.schedule(9e9 / clockHz); // with the acknowledge
  };
  let reads = false; // as the start said
  i2c.onConnect = (address, mode) => {
    reads = mode === 1;
    takes(() => i2c.completeConnect(address === I2C_ADDRESS));
  };
  i2c.onWriteByte = (byte) => {
    sensor.advance(clock.nanos);
    takes(() => i2c.completeWrite(true));
    if (sensor.command === null) sensor.begin(byte);
    else sensor.write(sensor.count(), byte);
  };
  i2c.onReadByte = () => {
    sensor.advance(clock.nanos);
    const answer = reads ? sensor.read(sensor.count(), clock.nanos) : 0xff;
    takes(() => i2c.completeRead(answer));
  };
  i2c.onStop = () => {
    sensor.end(clock.nanos);
    i2c.completeStop();
  };
}

// Wires it to the chip of rp2040js; returns a function to be called as time passes. After `resetAtNs` it resets
// itself once.
export function connect(chip, clock, frames, onSpi, resetAtNs) {
  const sensor = new Adxl345(frames);
  if (onSpi) wireSpi(sensor, chip.spi[0], chip.gpio[PINS.select], clock);
  else wireI2c(sensor, chip.i2c[0], chip.clkSys, clock);
  let level = null;
  return () => {
    sensor.advance(clock.nanos);
    if (clock.nanos >= resetAtNs) {
      sensor.reset();
      resetAtNs = Infinity;
    }
    if (level === sensor.int1) return;
    level = sensor.int1;
    chip.gpio[PINS.interrupt].setInputValue(level);
  };
}
