// The nRF52's flash controller (NVMC) as far as firmware can see it: pages are erased at once. Writes
// to flash land as they are: the model of the memory itself does not AND them.
using Antmicro.Renode.Peripherals.Bus;
using Antmicro.Renode.Peripherals.Memory;

namespace Antmicro.Renode.Peripherals.MTD
{
    public class FlashControllerOfNrf52 : IDoubleWordPeripheral, IKnownSize
    {
        public FlashControllerOfNrf52(MappedMemory flash)
        {
            this.flash = flash;
            erased = new byte[PageBytes];
            for(var i = 0; i < PageBytes; i++)
            {
                erased[i] = 0xFF;
            }
        }

        public uint ReadDoubleWord(long offset)
        {
            if(offset == Ready || offset == ReadyNext)
            {
                return 1;
            }
            return offset == Config ? config : 0;
        }

        public void WriteDoubleWord(long offset, uint value)
        {
            if(offset == Config)
            {
                config = value & 3;
            }
            else if(offset == ErasePage && config == EraseEnabled)
            {
                flash.WriteBytes(value & ~(uint)(PageBytes - 1), erased, PageBytes);
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
        private readonly MappedMemory flash;
        private readonly byte[] erased;

        private const int PageBytes = 4096;
        private const long Ready = 0x400;
        private const long ReadyNext = 0x408;
        private const long Config = 0x504;
        private const long ErasePage = 0x508;
        private const uint EraseEnabled = 2;
    }
}
