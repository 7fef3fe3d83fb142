/**
 * Hears notices for a node that has locks but no store, which would hear them.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { SessionNotifier } from "../../SessionNotifier.ts"
import { NoticeBoard } from "../NoticeBoard.ts"

/** In milliseconds. */
const reconnectDelay = 100

/** Feeds the board for as long as the layer lives. */
export const layer: Layer.Layer<never, never, SessionNotifier | NoticeBoard> = Layer.effectDiscard(
  Effect.gen(function* () {
    const notifier = yield* SessionNotifier
    const board = yield* NoticeBoard
    let hears = false
    const unfeed = board.feed(() => hears)
    yield* Effect.addFinalizer(() => Effect.sync(unfeed))
    const listen = Effect.scoped(
      Effect.flatMap(notifier.connect, ({ take }) => {
        hears = true
        board.resume()
        return Effect.forever(
          Effect.map(take, (notices) => {
            for (const notice of notices) board.publish(notice)
          })
        )
      })
    )
    const again = Effect.suspend(() => {
      hears = false
      return Effect.sleep(reconnectDelay)
    })
    yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.ignore(listen), again)))
  })
)
