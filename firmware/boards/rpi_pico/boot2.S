// Second stage of the RP2040's boot: the ROM copies these 256 bytes from flash to RAM and runs them.
// Makes flash readable at its addresses, then starts the program that follows.
//
// Registers: Raspberry Pi "RP2040 Datasheet", chapter "SSI". Serial read command 03h: slow, but every
// flash chip has it, and the ROM's own flash routines return to it.
  .syntax unified
  .cpu cortex-m0plus
  .thumb
  .section .boot2_body, "ax"
  .global boot2
boot2:
  ldr r3, =0x18000000        // SSI
  movs r0, #0
  str r0, [r3, #0x08]        // SSIENR: off
  movs r0, #4
  str r0, [r3, #0x14]        // BAUDR: 125 MHz / 4, below the 50 MHz that 03h allows
  ldr r0, =0x001F0300        // CTRLR0: 32-bit frames, EEPROM read
  str r0, [r3, #0x00]
  movs r0, #0
  str r0, [r3, #0x04]        // CTRLR1: one frame
  ldr r0, =0x03000218        // SPI_CTRLR0: command 03h of 8 bits, address of 24, one line each
  ldr r1, =0x180000F4
  str r0, [r1]
  movs r0, #1
  str r0, [r3, #0x08]        // SSIENR: on
  ldr r0, =0x10000100        // the vector table
  ldr r1, =0xE000ED08        // VTOR
  str r0, [r1]
  ldr r1, [r0]
  mov sp, r1
  ldr r0, [r0, #4]
  bx r0
  .pool
