/**
 * What clients know of sessions: those that they believe to be alive, with their
 * latest ids, and those that have ended, to be presented again. It follows from
 * the answers only.
 */
import { keyOf } from "./checks/Facts.ts"
import type { Operation } from "./History.ts"
import type { Random } from "./Random.ts"

/** Why a session was begun: what may be done with it. */
export type Purpose = "crowd" | "solo" | "guest" | "short" | "idle" | "vault" | "shared"

export interface Known {
  readonly key: string
  purpose: Purpose
  user: string | undefined
  readonly group: string | undefined
  /** The latest id that somebody was told, and those before. */
  token: string
  readonly formerTokens: Array<string>
  /** Of the latest id. */
  tokenVersion: number
  /** The latest version that somebody was told. */
  version: number
}

const maxEnded = 300

export class Population {
  private readonly alive = new Map<string, Known>()
  private readonly ended: Array<Known> = []

  observe({ outcome, request }: Operation): void {
    switch (outcome._tag) {
      case "Session": {
        const { group, key, user, version } = outcome.session
        const { token } = outcome
        const known = this.alive.get(key)
        if (request._tag === "Create" && token !== undefined) {
          const purpose = purposeOf(request)
          const formerTokens: Array<string> = []
          this.alive.set(key, { key, purpose, user, group, token, formerTokens, tokenVersion: version, version })
        } else if (known !== undefined) {
          known.version = Math.max(known.version, version)
          if (token !== undefined && version > known.tokenVersion) {
            known.formerTokens.push(known.token)
            known.token = token
            known.tokenVersion = version
            known.user = user
          }
          // A guest that has logged in is one of the crowd.
          if (known.purpose === "guest" && user !== undefined) known.purpose = "crowd"
        }
        break
      }
      case "Gone":
        if ("token" in request && request.token !== undefined) {
          const known = this.alive.get(keyOf(request.token))
          if (known?.token === request.token) this.end(known)
        }
        break
      case "Done":
        if (request._tag === "DeleteByKey") this.end(this.alive.get(request.key))
        if (request._tag === "Delete") this.end(this.alive.get(keyOf(request.token)))
        for (const known of this.all()) {
          if (request._tag === "DeleteUser" && known.user === request.user && known.key !== request.except) {
            this.end(known)
          }
          if (request._tag === "DeleteGroup" && known.group === request.group) this.end(known)
        }
        break
      default:
    }
  }

  /** One that is believed to be alive, mostly the earlier ones more often: some are used by many at once. */
  pick(random: Random, purposes: ReadonlyArray<Purpose>): Known | undefined {
    const drawn = random.next()
    const chance = purposes.length > 1 ? drawn ** 3 : drawn
    const candidates = [...this.alive.values()].filter(({ purpose }) => purposes.includes(purpose))
    return candidates[Math.floor(chance * candidates.length)]
  }

  pickEnded(random: Random): Known | undefined {
    return this.ended[Math.floor(random.next() * this.ended.length)]
  }

  all(): ReadonlyArray<Known> {
    return [...this.alive.values()]
  }

  allEnded(): ReadonlyArray<Known> {
    return this.ended
  }

  private end(known: Known | undefined): void {
    if (known === undefined || !this.alive.delete(known.key)) return
    this.ended.push(known)
    if (this.ended.length > maxEnded) this.ended.shift()
  }
}

const purposeOf = (request: Extract<Operation["request"], { readonly _tag: "Create" }>): Purpose => {
  if (request.expiresIn !== undefined) return "short"
  if (request.idleTimeout !== undefined) return "idle"
  if (request.user === undefined) return "guest"
  const purpose = request.user.split("-")[0]
  return purpose === "solo" || purpose === "vault" || purpose === "shared" ? purpose : "crowd"
}
