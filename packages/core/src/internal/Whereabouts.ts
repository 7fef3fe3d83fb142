/**
 * Where the session of an id was last found: as long as it stays in memory, finding it by the same id takes neither the id's text nor
 * a lookup. Each of those waits for main memory, which takes longer than anything else of a hit.
 *
 * It stands in private fields of the id itself, which nobody else can see or reach. An id leads to one session in one cache, and one id to
 * each session. One that was wiped (`Redacted.wipeUnsafe`) still leads there: wiping hides a text, it ends no session.
 */
import type { SessionId } from "../SessionId.ts"
import type { Handle } from "./CacheEntries.ts"

/** Constructs an object that is there already, so that a class below puts its fields on it. */
const Onto = function (object: object) {
  return object
} as unknown as new (object: object) => object

export class Whereabouts extends Onto {
  #handle: Handle | undefined = undefined
  /** The mark of the cache that the handle is in: an id may be presented to others. */
  #owner: object | undefined = undefined

  /** Where the id leads to in this owner's cache. */
  static of(id: SessionId, owner: object): Handle | undefined {
    return #handle in id && id.#owner === owner ? id.#handle : undefined
  }

  /** Lets the id, which must be the handle's, lead to it; answers whether it does. What it led to before must be told by {@link clear}. */
  static set(id: SessionId, handle: Handle, owner: object): boolean {
    const led = #handle in id ? id : Object.isExtensible(id) ? new Whereabouts(id) : undefined
    if (led === undefined) return false
    led.#handle = handle
    led.#owner = owner
    return true
  }

  /** Lets the id lead nowhere; answers where it led. */
  static clear(id: SessionId): Handle | undefined {
    if (!(#handle in id)) return undefined
    const handle = id.#handle
    id.#handle = undefined
    id.#owner = undefined
    return handle
  }
}
