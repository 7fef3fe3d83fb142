/**
 * The effect that `get` or `find` answers: one object that knows what is asked, where a function in `Effect.suspend`
 * takes two. Most reads come from memory, and take little longer than making those.
 */
import type * as Effect from "effect/Effect"
import * as Effectable from "effect/Effectable"
import type { SessionId } from "../../SessionId.ts"
import type { FindOptions } from "../../SessionStore.ts"

/** What a kind of read does with the presented id, whenever it is run. */
export type Perform<A, E> = (id: SessionId, options: FindOptions | undefined) => Effect.Effect<A, E>

export class Read<A, E> extends Effectable.Class<A, E> {
  private readonly perform: Perform<A, E>
  private readonly id: SessionId
  private readonly options: FindOptions | undefined

  constructor(perform: Perform<A, E>, id: SessionId, options: FindOptions | undefined) {
    super()
    this.perform = perform
    this.id = id
    this.options = options
  }

  asEffect(): Effect.Effect<A, E> {
    return this.perform(this.id, this.options)
  }
}
