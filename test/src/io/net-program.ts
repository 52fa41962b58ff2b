/** The other process of zmq-net.test.ts and tcp-net.test.ts: one end of a link that can be killed. */
import { RealNet } from '../../../src/io/real-net.ts'

const [mode, address] = process.argv.slice(2) as [string, string]
const net = new RealNet()
const tell = (text: string): void => {
  process.send?.(text)
}

if (mode === 'serve') {
  const limits = { messageBytesMax: 64 * 1024 * 1024, linksMax: 10 }
  const listener = await net.listen(address, limits, (link) => ({
    onMessage: (frames) => link.send(frames),
    onClose: () => undefined,
  }))
  tell(listener.address)
} else {
  const link = net.connect(address, {
    onOpen: () => link.send([new TextEncoder().encode('hello')]),
    onMessage: () => tell('answered'),
    onClose: () => process.exit(1),
  })
}
