// The nRF52840's serial port under Renode, whose reception ends with its buffer as on silicon.
using Antmicro.Renode.Core;

namespace Antmicro.Renode.Peripherals.UART
{
    // In Renode 1.16.1, a byte that arrives when software has cleared ENDRX and not started the next
    // reception is written behind the buffer, and so is all that follows it.
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
