/**
 * Where the session of an id was last found: as long as it stays in memory, finding it by the same id object takes neither the id's text
 * nor a lookup. Each of those waits for main memory, which takes longer than anything else of a hit.
 *
 * An id leads to a link, in a private field that no program can see or reach, and the link to the session until that leaves memory. The
 * session knows its link only, so that it keeps no id: whoever presents one may have cut it out of a long header. An id
 * that was wiped (`Redacted.wipeUnsafe`) still leads there: wiping hides a text, it ends no session.
 */
import type { SessionId } from "../SessionId.ts"
import type { Handle } from "./CacheEntries.ts"

/** What all id objects of one verified id share. */
export class Link {
  /** `undefined` once the session has left memory. */
  handle: Handle | undefined
  /** The mark of the cache that the session is in: an id may be presented to others. */
  readonly owner: object

  constructor(handle: Handle, owner: object) {
    this.handle = handle
    this.owner = owner
  }
}

/** Constructs an object that is there already, so that a class below puts its field on it. */
class Onto extends Object {
  constructor(object: object) {
    super()
    return object
  }
}

export class Whereabouts extends Onto {
  #link: Link | undefined = undefined

  /** Where the id leads. */
  static of(id: SessionId): Link | undefined {
    return #link in id ? id.#link : undefined
  }

  /** Lets the id, which must be that of the link's session, lead to it. One that is frozen is looked up each time. */
  static set(id: SessionId, link: Link): void {
    if (#link in id) id.#link = link
    else if (Object.isExtensible(id)) {
      const led = new Whereabouts(id)
      led.#link = link
    }
  }
}
