/** All mutations, in the order in which they are shown. */
import type { Mutation } from "./Mutation.ts"
import * as Activity from "./catalogue/Activity.ts"
import * as Cache from "./catalogue/Cache.ts"
import * as Connections from "./catalogue/Connections.ts"
import * as Express from "./catalogue/Express.ts"
import * as Http from "./catalogue/Http.ts"
import * as KeyOrder from "./catalogue/KeyOrder.ts"
import * as Lifecycles from "./catalogue/Lifecycles.ts"
import * as LockFunctions from "./catalogue/LockFunctions.ts"
import * as Locking from "./catalogue/Locking.ts"
import * as Memory from "./catalogue/Memory.ts"
import * as Reading from "./catalogue/Reading.ts"
import * as SharedLogins from "./catalogue/SharedLogins.ts"
import * as ShortStatement from "./catalogue/ShortStatement.ts"
import * as Statements from "./catalogue/Statements.ts"
import * as Synchronizing from "./catalogue/Synchronizing.ts"
import * as Writing from "./catalogue/Writing.ts"

export const catalogue: ReadonlyArray<Mutation> = [
  ...Cache.mutations,
  ...Memory.mutations,
  ...Reading.mutations,
  ...Activity.mutations,
  ...Synchronizing.mutations,
  ...Writing.mutations,
  ...Statements.mutations,
  ...ShortStatement.mutations,
  ...Lifecycles.mutations,
  ...SharedLogins.mutations,
  ...KeyOrder.mutations,
  ...Locking.mutations,
  ...LockFunctions.mutations,
  ...Connections.mutations,
  ...Http.mutations,
  ...Express.mutations
]
