/**
 * Lets a process's wall clock be set from outside: loaded before everything else
 * (`--import`), it puts an offset before every use of `Date`, and takes the offset
 * from messages. The code under test does not know.
 */
const RealDate = Date
let offset = 0

const currentTime = (): number => RealDate.now() + offset

globalThis.Date = new Proxy(RealDate, {
  construct: (target, args: Array<unknown>, newTarget) => {
    const made: unknown = Reflect.construct(target, args.length === 0 ? [currentTime()] : args, newTarget)
    return typeof made === "object" && made !== null ? made : {}
  },
  get: (target, property): unknown => (property === "now" ? currentTime : Reflect.get(target, property))
})

process.on("message", (message: unknown) => {
  if (typeof message === "object" && message !== null && "wallClock" in message) {
    offset = Number(message.wallClock)
  }
})
