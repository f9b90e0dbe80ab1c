// The nRF52840's serial port under Renode; as on silicon, reception ends at the end of its buffer.
using Antmicro.Renode.Core;

namespace Antmicro.Renode.Peripherals.UART
{
    // In Renode 1.16.1, a byte that arrives after software has cleared ENDRX and before it has started
    // the next reception is written beyond the buffer, and so are all bytes that follow.
    public class UarteOfNrf52 : NRF52840_UART
    {
        public UarteOfNrf52(IMachine machine) : base(machine, easyDMA: true)
        {
        }

        // The byte is in the queue already; the next STARTRX takes it.
        protected override void CharWritten()
        {
            if(ReadDoubleWord(Amount) < ReadDoubleWord(MaxCount))
            {
                base.CharWritten();
            }
        }

        private const long MaxCount = 0x538, Amount = 0x53C;  // of RXD
    }
}
