// Flash under Renode that behaves as on silicon: programs only clear bits, nothing is written while
// the controller does not allow it, the content is kept in a file, and power can fail in the middle
// of a word. Also the controllers of the STM32F4 (ST RM0090) and the nRF52 (Nordic "nRF52840 Product
// Specification", NVMC). Erase and program take no time: the controller reads busy once after each.
using System;
using System.Diagnostics;
using System.IO;
using Antmicro.Migrant;
using Antmicro.Renode.Logging;
using Antmicro.Renode.Peripherals.Bus;

namespace Antmicro.Renode.Peripherals.MTD
{
    // Code does not run from here: the board maps plain memory where the firmware is.
    public class FlashCells : IBytePeripheral, IWordPeripheral, IDoubleWordPeripheral, IKnownSize
    {
        public FlashCells(long size)
        {
            cells = new byte[size];
            Fill(0, size);
        }

        // The content is read from this file, if it exists, and every change is written to it at once.
        public void Open(string path)
        {
            if(path.Length == 0)
            {
                return;
            }
            file = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite);
            for(var n = 0; n < cells.Length;)
            {
                var got = file.Read(cells, n, cells.Length - n);
                if(got == 0)
                {
                    break;
                }
                n += got;
            }
        }

        // The emulator ends inside this erase or program, counted from 1, with half of it done.
        public void FailPowerAt(long operation)
        {
            failAt = operation;
        }

        public void Erase(long offset, long bytes)
        {
            Fill(offset, PowerFails() ? bytes / 2 : bytes);
            Keep(offset, bytes);
        }

        public byte ReadByte(long offset)
        {
            return cells[offset];
        }

        public ushort ReadWord(long offset)
        {
            return (ushort)(cells[offset] | cells[offset + 1] << 8);
        }

        public uint ReadDoubleWord(long offset)
        {
            return ReadWord(offset) | (uint)ReadWord(offset + 2) << 16;
        }

        public void WriteByte(long offset, byte value)
        {
            Program(offset, value, 1);
        }

        public void WriteWord(long offset, ushort value)
        {
            Program(offset, value, 2);
        }

        public void WriteDoubleWord(long offset, uint value)
        {
            Program(offset, value, 4);
        }

        // True once after each erase and program.
        public bool TakeBusy()
        {
            var wasBusy = isBusy;
            isBusy = false;
            return wasBusy;
        }

        // Flash outlives a reset.
        public void Reset()
        {
            WritableBytes = 0;
        }

        public long Size
        {
            get { return cells.Length; }
        }

        // Width in bytes of the stores that the controller accepts now; 0: none.
        public int WritableBytes { get; set; }

        // A store that was not accepted.
        public Action Refused { get; set; }

        private void Program(long offset, uint value, int bytes)
        {
            if(bytes != WritableBytes || offset % bytes != 0)
            {
                this.Log(LogLevel.Error, "Refused a store of {0} bytes to flash at 0x{1:X}", bytes, offset);
                if(Refused != null)
                {
                    Refused();
                }
                return;
            }
            if(PowerFails())
            {
                value |= 0xFFFF0000;
            }
            for(var i = 0; i < bytes; i++)
            {
                cells[offset + i] &= (byte)(value >> (8 * i));
            }
            Keep(offset, bytes);
        }

        private bool PowerFails()
        {
            isBusy = true;
            operations++;
            return operations == failAt;
        }

        private void Fill(long offset, long bytes)
        {
            for(var i = 0L; i < bytes; i++)
            {
                cells[offset + i] = 0xFF;
            }
        }

        private void Keep(long offset, long bytes)
        {
            if(file != null)
            {
                file.Seek(offset, SeekOrigin.Begin);
                file.Write(cells, (int)offset, (int)bytes);
                file.Flush();
            }
            if(operations == failAt)
            {
                Process.GetCurrentProcess().Kill();
            }
        }

        private bool isBusy;
        private long operations;
        private long failAt = -1;
        [Transient]
        private FileStream file;  // not part of a snapshot
        private readonly byte[] cells;
    }

    public class FlashControllerOfStm32F4 : IDoubleWordPeripheral, IKnownSize
    {
        public FlashControllerOfStm32F4(FlashCells cells)
        {
            this.cells = cells;
            cells.Refused = () => state |= SequenceError;
            Reset();
        }

        public uint ReadDoubleWord(long offset)
        {
            switch(offset)
            {
            case Access:
                return access;
            case State:
                return state | (cells.TakeBusy() ? Busy : 0);
            case Control:
                return control;
            default:
                return 0;
            }
        }

        public void WriteDoubleWord(long offset, uint value)
        {
            switch(offset)
            {
            case Access:
                access = value;
                break;
            case Key:
                if(value == Key2 && lastKey == Key1)
                {
                    control &= ~Lock;
                }
                lastKey = value;
                break;
            case State:
                state &= ~value;
                break;
            case Control:
                WriteControl(value);
                break;
            }
        }

        public void Reset()
        {
            access = state = lastKey = 0;
            control = Lock;
        }

        public long Size
        {
            get { return 0x400; }
        }

        private void WriteControl(uint value)
        {
            if((control & Lock) != 0)
            {
                this.Log(LogLevel.Error, "Refused 0x{0:X8} for the control register, which is locked", value);
                return;
            }
            control = value & ~Start;
            var programs = (value & (ProgramMode | SectorErase | Lock)) == ProgramMode;
            cells.WritableBytes = programs ? 1 << (int)(value >> 8 & 3) : 0;
            if((value & (SectorErase | Start | Lock)) == (SectorErase | Start))
            {
                EraseSector(value >> 3 & 0xF);
            }
        }

        // Four of 16 KB, one of 64 KB, the others of 128 KB.
        private void EraseSector(long sector)
        {
            var offset = sector < 4 ? sector * 0x4000 : sector == 4 ? 0x10000 : (sector - 4) * 0x20000;
            cells.Erase(offset, sector < 4 ? 0x4000 : sector == 4 ? 0x10000 : 0x20000);
        }

        private uint access, state, control, lastKey;
        private readonly FlashCells cells;

        private const long Access = 0x00;
        private const long Key = 0x04;
        private const long State = 0x0C;
        private const long Control = 0x10;
        private const uint Key1 = 0x45670123, Key2 = 0xCDEF89AB;
        private const uint ProgramMode = 1, SectorErase = 2, Start = 1u << 16, Lock = 1u << 31;
        private const uint SequenceError = 1u << 7, Busy = 1u << 16;
    }

    public class FlashControllerOfNrf52 : IDoubleWordPeripheral, IKnownSize
    {
        public FlashControllerOfNrf52(FlashCells cells)
        {
            this.cells = cells;
        }

        public uint ReadDoubleWord(long offset)
        {
            if(offset == Ready)
            {
                return cells.TakeBusy() ? 0u : 1u;
            }
            return offset == Config ? config : 0;
        }

        public void WriteDoubleWord(long offset, uint value)
        {
            if(offset == Config)
            {
                config = value & 3;
                cells.WritableBytes = config == WriteEnabled ? 4 : 0;
            }
            else if(offset == ErasePage && config == EraseEnabled)
            {
                cells.Erase(value & ~(uint)(PageBytes - 1), PageBytes);
            }
        }

        public void Reset()
        {
            config = 0;
        }

        public long Size
        {
            get { return 0x1000; }
        }

        private uint config;
        private readonly FlashCells cells;

        private const int PageBytes = 4096;
        private const long Ready = 0x400;
        private const long Config = 0x504;
        private const long ErasePage = 0x508;
        private const uint WriteEnabled = 1, EraseEnabled = 2;
    }
}
