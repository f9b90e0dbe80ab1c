// Runs a UF2 file in rp2040js, with UART 0 on a TCP port of this computer.
//   node rp2040js.mjs firmware.uf2 PORT [[spi,]adxl345=FILE [RESET_MS]]    (needs `npm install rp2040js`)
//
// With the third argument, an ADXL345 is on I2C0 or SPI0 that measures FILE: int16 x y z, little-endian, 16 g at
// 32768. With the fourth, it resets itself once, so long after the start.
//
// The package includes no boot ROM, so the few routines that the firmware calls there are emulated here. The
// emulator does not end a WFI while interrupts are masked, as the core does, so that is done here too.
import { createRequire } from 'node:module';
import fs from 'node:fs';
import net from 'node:net';
import { connect as connectAdxl345 } from './adxl345.mjs';

const require = createRequire(`${process.env.KILOTUNE_RP2040JS || process.cwd()}/`);
const { Simulator } = require('rp2040js');

const FLASH = 0x10000000;
const CYCLE_NS = 8;
const BYTE_NS = 87000; // at 115,200 baud
const STEPS_A_TURN = 20000;
const RETURN = 0x4770; // bx lr

const [file, port, sensor, resetMs] = process.argv.slice(2);
const { rp2040: chip, clock } = new Simulator();
const { core } = chip;
chip.logger = { debug() {}, info() {}, warn() {}, error(from, what) { console.error(from, what); } };

// --- boot ROM: a table of functions, each of which returns at once; what it does is in `calls`
const places = { IF: 0x200, EX: 0x210, RE: 0x220, RP: 0x230, FC: 0x240, CX: 0x250 };
const LOOKUP = 0x100;
const rom = new Uint32Array(4096);
rom[0x14 / 4] = 0x80;
rom[0x18 / 4] = LOOKUP | 1;
for (const address of [LOOKUP, ...Object.values(places)]) rom[address / 4] = RETURN;
let readable = true; // flash, at its addresses
const calls = {
  [LOOKUP]() {
    const code = core.registers[1];
    const place = places[String.fromCharCode(code & 0xff, code >> 8)];
    if (place === undefined) throw new Error(`boot ROM function ${code.toString(16)} is not there`);
    core.registers[0] = place | 1;
  },
  [places.EX]() { readable = false; },
  [places.CX]() { readable = true; },
  [places.RE]() {
    const [start, bytes] = core.registers;
    chip.flash.fill(0xff, start, start + bytes);
  },
  [places.RP]() {
    const [start, from, bytes] = core.registers;
    for (let i = 0; i < bytes; i++) chip.flash[start + i] &= chip.readUint8(from + i);
  },
};
chip.loadBootrom(rom);

const uf2 = fs.readFileSync(file);
for (let at = 0; at < uf2.length; at += 512) {
  chip.flash.set(uf2.subarray(at + 32, at + 32 + uf2.readUInt32LE(at + 16)), uf2.readUInt32LE(at + 12) - FLASH);
}

function boot() {
  chip.ppb.reset(); // the core's own reset leaves its interrupts as they were
  core.enabledInterrupts = 0;
  core.pendingInterrupts = 0;
  core.pendingSystick = false;
  core.PM = false;
  core.IPSR = 0;
  core.waiting = false;
  core.VTOR = 0;
  readable = true;
  core.SP = 0x20041f00;
  core.PC = FLASH; // the second boot stage
}
let restart = false;
chip.peripherals[0x40058].onWatchdogTrigger = () => { restart = true; };
boot();

// --- the sensor
function connectSensor() {
  if (sensor === undefined) return () => {};
  const parts = /^(spi,)?adxl345=(.+)$/.exec(sensor);
  if (parts === null) throw new Error(`there is no model of the sensor: ${sensor}`);
  const bytes = fs.readFileSync(parts[2]);
  const frames = new Int16Array(Math.floor(bytes.length / 6) * 3);
  for (let i = 0; i < frames.length; i++) frames[i] = bytes.readInt16LE(2 * i);
  return connectAdxl345(chip, clock, frames, parts[1] !== undefined, resetMs === undefined ? Infinity : resetMs * 1e6);
}
const advanceSensor = connectSensor();

// --- the serial line
let client = null;
let received = [];
let sent = [];
net.createServer((socket) => {
  client = socket;
  socket.setNoDelay(true);
  socket.on('data', (data) => received.push(...data));
  socket.on('error', () => {});
  socket.on('close', () => { if (client === socket) client = null; });
}).listen(Number(port), '127.0.0.1');
chip.uart[0].onByte = (byte) => sent.push(byte);
let nextByteNs = 0;

function turn() {
  for (let i = 0; i < STEPS_A_TURN; i++) {
    if (restart) {
      restart = false;
      boot();
    }
    if (core.waiting) {
      clock.tick(clock.nanosToNextAlarm || CYCLE_NS);
      if (core.pendingSystick || core.pendingInterrupts) core.waiting = false;
    } else {
      if (!readable && core.PC >= FLASH && core.PC < FLASH + 0x1000000) {
        throw new Error(`the firmware runs from flash at ${core.PC.toString(16)} while flash is busy`);
      }
      calls[core.PC]?.();
      clock.tick(core.executeInstruction() * CYCLE_NS);
    }
    advanceSensor();
    if (received.length > 0 && clock.nanos >= nextByteNs) {
      chip.uart[0].feedByte(received.shift());
      nextByteNs = clock.nanos + BYTE_NS;
    }
  }
  if (sent.length > 0) {
    client?.write(Buffer.from(sent));
    sent = [];
  }
  setImmediate(turn);
}
process.stdin.on('end', () => process.exit(0)).resume(); // ends with its parent
turn();
