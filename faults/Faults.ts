/** Every kind of fault. */
import type { Fault } from "./Fault.ts"
import { faults as contention } from "./kinds/Contention.ts"
import { faults as forgery } from "./kinds/Forgery.ts"
import { faults as network } from "./kinds/Network.ts"
import { faults as pooling } from "./kinds/Pooling.ts"
import { faults as processes } from "./kinds/Processes.ts"
import { faults as server } from "./kinds/Server.ts"
import { faults as storage } from "./kinds/Storage.ts"
import type { Pooler } from "./Pooler.ts"

export const faults = (options: {
  readonly pooler: Pooler | undefined
  /** Why there is no file system of limited size. */
  readonly unlimited: string | undefined
}): ReadonlyArray<Fault> => [
  ...server,
  ...contention,
  ...forgery,
  ...storage(options.unlimited),
  ...pooling(options.pooler),
  ...network,
  ...processes
]
